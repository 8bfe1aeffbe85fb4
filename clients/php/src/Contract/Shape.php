<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

use MemoryWorker\Exception\InvalidJob;
use MemoryWorker\Job\Job;

/** @internal Bring jobs into the types of the contract. */
final class Shape
{
    private const NARROWING = ['category', 'group_key', 'file_id', 'active'];
    private const FIND_MORE = 'leave it out to find more';
    /** The fields of each job that null would widen, if it meant that they are absent; and what to do instead. */
    private const NULL_ADVICE = [
        'purge' => [
            ['kind', 'namespace', 'before', 'other_than_model', ...self::NARROWING],
            'leave it out to delete more',
        ],
        'patch' => [['kind', 'point_ids', ...self::NARROWING], 'leave it out'],
        'search' => [self::NARROWING, self::FIND_MORE],
        'list' => [self::NARROWING, self::FIND_MORE],
        'count' => [self::NARROWING, self::FIND_MORE],
        'facet' => [self::NARROWING, self::FIND_MORE],
        'files' => [self::NARROWING, self::FIND_MORE],
        'stats' => [self::NARROWING, self::FIND_MORE],
    ];

    /** @throws InvalidJob which names the wrong field */
    public static function normalize(Job $job): NormalJob
    {
        return self::normalizeFields($job->op(), $job->fields());
    }

    /**
     * @param array<array-key, mixed> $given fields by their names on the wire
     *
     * @throws InvalidJob which names the wrong field
     */
    public static function normalizeFields(string $op, array $given): NormalJob
    {
        $fields = Fields::of($op);
        self::refuseNulls($op, $given);
        $normal = [];
        foreach ($fields as $name => $field) {
            if (array_key_exists($name, $given)) {
                $normal[$name] = $field->type->normalize($name, $given[$name]);
            }
        }
        foreach ($normal as $name => $value) {
            $normal[$name] = $fields[$name]->type->check($name, $value);
        }
        foreach ($fields as $name => $field) {
            if ($field->isRequired && !array_key_exists($name, $normal)) {
                throw new InvalidJob($name, "object missing required field `$name`");
            }
        }
        foreach (array_diff_key($given, $fields) as $name => $_) {
            throw new InvalidJob((string) $name, "object contains unknown field `$name`");
        }

        return new NormalJob($op, $normal);
    }

    /** @param array<array-key, mixed> $given */
    private static function refuseNulls(string $op, array $given): void
    {
        [$names, $advice] = self::NULL_ADVICE[$op] ?? [[], ''];
        foreach ($names as $name) {
            if (array_key_exists($name, $given) && $given[$name] === null) {
                throw new InvalidJob($name, "must not be null: $advice");
            }
        }
    }
}
