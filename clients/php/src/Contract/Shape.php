<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

use MemoryWorker\Exception\InvalidJob;
use MemoryWorker\Job\Job;

/** @internal Bring jobs into the types of the contract. */
final class Shape
{
    private const NARROWING = ['namespace', 'category', 'group_key', 'file_id', 'before', 'other_than_model', 'active'];
    private const WRITES = ['upsert', 'delete', 'prune'];
    private const KIND_ADVICE = 'leave it out for the default, which is all kinds for a purge';

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
        self::refuseNulls($op, $given, $fields);
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

    /**
     * Refuse null where it may be an id that is missing by mistake.
     *
     * @param array<array-key, mixed> $given
     * @param array<string, Field> $fields
     */
    private static function refuseNulls(string $op, array $given, array $fields): void
    {
        foreach ($fields as $name => $field) {
            if ($field->type->allowsNull() || !array_key_exists($name, $given) || $given[$name] !== null) {
                continue;
            }
            $advice = match (true) {
                $op === 'purge' && in_array($name, [...self::NARROWING, 'kind'], true) => 'leave it out to delete more',
                $op === 'patch' && in_array($name, [...self::NARROWING, 'kind', 'point_ids'], true) => 'leave it out',
                $name === 'kind' => self::KIND_ADVICE,
                in_array($name, self::NARROWING, true) => in_array($op, self::WRITES, true)
                    ? 'leave it out to delete or find more'
                    : 'leave it out to find more',
                default => null,
            };
            if ($advice !== null) {
                throw new InvalidJob($name, "must not be null: $advice");
            }
        }
    }
}
