<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

use MemoryWorker\Absent;
use MemoryWorker\Exception\InvalidJob;
use MemoryWorker\Job\Given;
use MemoryWorker\Job\Prune;
use MemoryWorker\Job\ReadJob;
use MemoryWorker\Job\Upsert;
use MemoryWorker\Job\WriteJob;

/** @internal Build jobs from maps of fields, and say which one is wrong. */
final class Build
{
    private const COMMON = ['user_id', 'kind', 'namespace'];

    /**
     * Return the ids with one more, which may come alone.
     *
     * @param iterable<string>|Absent|null $ids
     * @return list<string>
     *
     * @throws InvalidJob
     */
    public static function withId(iterable|Absent|null $ids, string $id): array
    {
        if ($ids === null) {
            throw new InvalidJob('point_ids', 'must not be null: leave it out');
        }

        $all = [];
        foreach ($ids instanceof Absent ? [] : $ids as $one) {
            $all[] = $one;
            if (count($all) > Fields::MAX_POINT_IDS) { // a later check finds it
                break;
            }
        }

        return [...$all, $id];
    }

    /**
     * Convert each item. If there are several, an error says which item it is about.
     *
     * @template T
     * @template R
     * @param list<T> $items
     * @param callable(T): R $convert
     * @return list<R>
     *
     * @throws InvalidJob
     */
    public static function each(array $items, callable $convert): array
    {
        $results = [];
        foreach ($items as $position => $item) {
            try {
                $results[] = $convert($item);
            } catch (InvalidJob $error) {
                $count = count($items);
                throw $count === 1 ? $error : new InvalidJob(
                    $error->field,
                    "$error->problem (job $position of $count, counted from 0)",
                    $error,
                );
            }
        }

        return $results;
    }

    /**
     * Return the jobs of `Writes::pushMany`.
     *
     * @param iterable<mixed> $given
     * @return list<WriteJob>
     *
     * @throws InvalidJob
     */
    public static function writeJobs(iterable $given): array
    {
        $jobs = [];
        foreach (ListType::items('jobs', $given, 'write jobs') as $position => $job) {
            if (!$job instanceof WriteJob) {
                $problem = 'expected an Upsert, Delete, Purge, Patch or Prune, got %s';
                throw new InvalidJob("jobs[$position]", sprintf($problem, Text::typeWord($job)));
            }
            $jobs[] = $job;
        }

        return $jobs;
    }

    /**
     * Return the jobs of `Reads::callMany` in the types of the contract.
     *
     * @template TKey of array-key
     * @param array<TKey, mixed> $given
     * @return array<TKey, NormalJob>
     *
     * @throws InvalidJob
     */
    public static function readJobs(array $given): array
    {
        foreach ($given as $key => $job) {
            if (!$job instanceof ReadJob) {
                $problem = 'expected a read job such as Search, got %s';
                throw new InvalidJob("jobs[$key]", sprintf($problem, Text::typeWord($job)));
            }
        }
        /** @var array<TKey, ReadJob> $given */
        return array_combine(array_keys($given), self::each(array_values($given), Shape::normalize(...)));
    }

    /**
     * Return the jobs for the items of `Writes::upsertMany`.
     *
     * @param iterable<mixed> $points
     * @return list<Upsert>
     *
     * @throws InvalidJob
     */
    public static function upserts(iterable $points): array
    {
        $found = [];
        foreach ($points as $point) {
            $field = sprintf('upsert_many[%d]', count($found));
            $found[] = $point instanceof Upsert ? $point : self::upsertFields($field, $point);
        }

        return self::each($found, self::upsert(...));
    }

    /**
     * Return the jobs for the chunks of `Writes::replaceFile`, whose last job is ``$prune``.
     *
     * @param iterable<mixed> $chunks
     * @return list<Upsert>
     *
     * @throws InvalidJob
     */
    public static function chunks(iterable $chunks, Prune $prune): array
    {
        $found = [];
        foreach ($chunks as $chunk) {
            $found[] = self::chunkFields(sprintf('chunks[%d]', count($found)), $chunk, $prune);
        }

        return self::each($found, self::upsert(...));
    }

    /**
     * Return the fields of one search of `Reads::searchMany`.
     *
     * @return array<array-key, mixed>
     *
     * @throws InvalidJob
     */
    public static function searchFields(string $field, mixed $search): array
    {
        if (!is_array($search) || $search !== [] && array_is_list($search)) {
            $problem = 'expected a Search or a map of the arguments of search, got %s';
            throw new InvalidJob($field, sprintf($problem, Text::typeWord($search)));
        }
        foreach ($search as $name => $_) {
            if (!isset(Fields::of('search')[$name]) || $name === 'after' || $name === 'timeout_ms') {
                throw new InvalidJob($field, Text::excerpt((string) $name) . ' is no argument of search');
            }
        }
        if (!array_key_exists('user_id', $search)) {
            throw new InvalidJob("$field.user_id", 'is missing');
        }
        if (!array_key_exists('kind', $search)) {
            $search['kind'] = isset($search['group_key']) || isset($search['file_id']) ? 'document' : 'memory';
        }

        return $search;
    }

    /**
     * @return array<array-key, mixed>
     *
     * @throws InvalidJob
     */
    private static function upsertFields(string $field, mixed $point): array
    {
        if (!is_array($point) || $point !== [] && array_is_list($point)) {
            $problem = 'expected an Upsert or a map of the arguments of upsert, got %s';
            throw new InvalidJob($field, sprintf($problem, Text::typeWord($point)));
        }
        foreach ($point as $name => $_) {
            if (!isset(Fields::of('upsert')[$name])) {
                throw new InvalidJob($field, Text::excerpt((string) $name) . ' is no argument of upsert');
            }
        }
        self::checkPresent($field, $point, ['user_id', 'point_id', 'vector']);
        $point['payload'] ??= [];

        return $point;
    }

    /**
     * @return array<array-key, mixed>
     *
     * @throws InvalidJob
     */
    private static function chunkFields(string $field, mixed $chunk, Prune $prune): array
    {
        $given = $chunk instanceof Upsert ? self::withoutDefaults($chunk) : $chunk;
        if (!is_array($given) || $given !== [] && array_is_list($given)) {
            throw new InvalidJob($field, sprintf('expected a map or a struct, got %s', Text::typeWord($given)));
        }
        $common = ['user_id' => $prune->userId, 'kind' => $prune->kind, 'namespace' => $prune->namespace];
        foreach ($given as $name => $value) {
            if (!in_array($name, [...self::COMMON, 'point_id', 'vector', 'payload'], true)) {
                throw new InvalidJob($field, Text::excerpt((string) $name) . ' is no field of a chunk');
            }
            if (array_key_exists($name, $common) && $value !== $common[$name]) {
                throw new InvalidJob("$field.$name", "differs from the file's " . Text::excerpt($common[$name]));
            }
        }
        self::checkPresent($field, $given, ['point_id', 'vector']);
        $given['payload'] = self::chunkPayload($field, $given['payload'] ?? [], $prune);

        return [...$given, ...$common, 'ref' => $prune->ref];
    }

    /** @return array<array-key, mixed> */
    private static function chunkPayload(string $field, mixed $payload, Prune $prune): array
    {
        $payload = $payload instanceof \stdClass ? (array) $payload : $payload;
        if (!is_array($payload) || $payload !== [] && array_is_list($payload)) {
            throw new InvalidJob("$field.payload", sprintf('expected a map, got %s', Text::typeWord($payload)));
        }
        foreach (['file_id' => $prune->fileId, '_version' => $prune->version] as $name => $value) {
            if (($payload[$name] ?? $value) !== $value) {
                throw new InvalidJob("$field.payload.$name", "differs from the file's $value");
            }
            $payload[$name] = $value;
        }

        return $payload;
    }

    /** @return array<string, mixed> */
    private static function withoutDefaults(Upsert $upsert): array
    {
        $fields = Fields::of('upsert');

        return array_filter(
            $upsert->fields(),
            static fn (mixed $value, string $name): bool => $value !== $fields[$name]->default,
            ARRAY_FILTER_USE_BOTH,
        );
    }

    /**
     * @param array<array-key, mixed> $given
     * @param list<string> $names
     */
    private static function checkPresent(string $field, array $given, array $names): void
    {
        foreach ($names as $name) {
            if (!array_key_exists($name, $given)) {
                throw new InvalidJob("$field.$name", 'is missing');
            }
        }
    }

    /** @param Upsert|array<array-key, mixed> $given */
    private static function upsert(Upsert|array $given): Upsert
    {
        if ($given instanceof Upsert) {
            return $given;
        }
        $job = Shape::normalizeFields('upsert', $given);

        return new Upsert(
            userId: $job->userId(),
            pointId: $job->text('point_id'),
            vector: $job->bytes('vector'),
            payload: (object) $job->map('payload'),
            kind: $job->text('kind'),
            namespace: $job->textOrNull('namespace'),
            ref: $job->textOrNull('ref'),
            notify: $job->get('notify') === true,
        );
    }
}
