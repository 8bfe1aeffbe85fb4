<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

use MemoryWorker\Exception\InvalidJob;
use MemoryWorker\Job\Job;

/** @internal Bring jobs into the types of the contract. */
final class Shape
{
    private const FIND_MORE = 'leave it out to delete or find more';
    /** What to do instead of passing null. */
    private const NULL_ADVICE = [
        'kind' => 'leave it out for the default, which is all kinds for a purge',
        'namespace' => self::FIND_MORE,
        'category' => self::FIND_MORE,
        'group_key' => self::FIND_MORE,
        'file_id' => self::FIND_MORE,
        'before' => self::FIND_MORE,
        'other_than_model' => self::FIND_MORE,
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
        $normal = [];
        foreach ($fields as $name => $field) {
            if (array_key_exists($name, $given)) {
                self::refuseNull($name, $given[$name], $field);
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

    private static function refuseNull(string $name, mixed $value, Field $field): void
    {
        if ($value === null && isset(self::NULL_ADVICE[$name]) && !$field->type->allowsNull()) {
            throw new InvalidJob($name, 'must not be null: ' . self::NULL_ADVICE[$name]);
        }
    }
}
