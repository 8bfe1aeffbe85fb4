<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Support;

use MemoryWorker\Queue;
use MemoryWorker\Receipt;

/** Reads the golden files, which all clients share. Their README explains the forms of values. */
final class Golden
{
    /** The methods that have another name or are not in this client. */
    private const ABSENT_METHODS = ['list_all', 'count_all', 'facet_all'];

    public static function path(string $file = ''): string
    {
        $given = getenv('GOLDEN_DIR');

        return (is_string($given) && $given !== '' ? $given : dirname(__DIR__, 3) . '/golden') . $file;
    }

    /** @return array<array-key, mixed> */
    public static function read(string $file): array
    {
        $found = json_decode((string) file_get_contents(self::path("/$file.json")), false, 512, JSON_THROW_ON_ERROR);

        return (array) $found;
    }

    /**
     * Return the cases of a file, or of one of its lists, for a data provider.
     *
     * @return array<string, array{\stdClass}>
     */
    public static function cases(string $file, string $list = ''): array
    {
        $found = self::read($file);
        $cases = [];
        foreach ($list === '' ? $found : (array) $found[$list] as $position => $case) {
            if ($case instanceof \stdClass && !in_array($case->method ?? '', self::ABSENT_METHODS, true)) {
                $name = $case->name ?? $case->text ?? $case->point_id ?? $case->redis ?? '';
                $cases["$position " . (is_string($name) ? $name : '')] = [$case];
            }
        }

        return $cases;
    }

    /** @return array<string, string> the fields of ``mw:meta`` */
    public static function limits(string $name): array
    {
        $fields = [];
        foreach ($name === 'none' ? [] : (array) self::read('limits')[$name] as $field => $value) {
            $fields[(string) $field] = is_scalar($value) ? (string) $value : (string) json_encode($value);
        }

        return $fields;
    }

    /** Call a method of a queue as the Python client is called. */
    public static function call(Queue $queue, \stdClass $case): mixed
    {
        $method = self::camelCase((string) $case->method);
        $arguments = [];
        foreach ((array) $case->args as $name => $value) {
            if ($name === 'payload' && $value === []) {
                throw new NotInPhp('an empty array is an empty map');
            }
            $name = self::camelCase((string) $name);
            $arguments[$name] = self::value($value, $name);
        }

        return $queue->$method(...$arguments);
    }

    /**
     * Return the arguments of a case by their names on the wire.
     *
     * @return array<string, mixed>
     */
    public static function fields(\stdClass $case): array
    {
        $fields = [];
        foreach ((array) $case->args as $name => $value) {
            $fields[(string) $name] = self::value($value, (string) $name);
        }

        return $fields;
    }

    /** Return the value that a form in a file stands for. Maps become arrays, except inside of payloads. */
    public static function value(mixed $value, string $name = ''): mixed
    {
        if (is_array($value)) {
            return array_map(static fn (mixed $item): mixed => self::value($item, $name), $value);
        }
        if (!$value instanceof \stdClass) {
            return $value;
        }
        $fields = (array) $value;
        $only = count($fields) === 1 ? (string) key($fields) : '';
        $form = $only === '' ? null : $fields[$only];

        return match ($only) {
            'base64' => $name === 'inside'
                ? throw new NotInPhp('PHP keeps bytes and text in one type')
                : base64_decode((string) $form, true),
            'float32' => base64_decode((string) $form, true),
            'number' => ['nan' => NAN, 'inf' => INF, '-inf' => -INF][(string) $form],
            'integer', 'not_unicode' => throw new NotInPhp(),
            'datetime' => new \DateTimeImmutable((string) $form),
            'receipt' => Receipt::parse((string) $form),
            'list_of' => array_fill(0, (int) $form[1], self::value($form[0])),
            'text_of' => str_repeat((string) $form[0], (int) $form[1]),
            'map_of' => self::mapOf((int) $form),
            'nested_lists' => self::nestedLists((int) $form),
            default => self::map($fields, $name),
        };
    }

    /**
     * @param array<array-key, mixed> $fields
     * @return array<array-key, mixed>|\stdClass
     */
    private static function map(array $fields, string $name): array|\stdClass
    {
        $isPayload = in_array($name, ['payload', 'set', 'where', 'inside'], true);
        $values = [];
        foreach ($fields as $field => $value) {
            $values[$field] = self::value($value, $isPayload ? 'inside' : (string) $field);
        }

        return $isPayload && $name !== 'where' ? (object) $values : $values;
    }

    private static function mapOf(int $count): \stdClass
    {
        $map = new \stdClass();
        for ($n = 0; $n < $count; $n++) {
            $map->{"f$n"} = $n;
        }

        return $map;
    }

    /** @return list<mixed> */
    private static function nestedLists(int $depth): array
    {
        $list = [];
        for ($n = 1; $n < $depth; $n++) {
            $list = [$list];
        }

        return $list;
    }

    private static function camelCase(string $name): string
    {
        return lcfirst(str_replace('_', '', ucwords($name, '_')));
    }
}
