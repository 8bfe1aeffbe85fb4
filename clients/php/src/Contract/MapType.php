<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

use MemoryWorker\Exception\InvalidJob;

/** @internal A payload, or the new values of a patch. */
final class MapType implements FieldType
{
    /** @param bool $isPatch whether it holds the new values of a patch */
    public function __construct(private readonly bool $isPatch = false, private readonly ?int $max = null)
    {
    }

    public function allowsNull(): bool
    {
        return false;
    }

    public function normalize(string $field, mixed $value): mixed
    {
        if (!$value instanceof \stdClass && (!is_array($value) || $value !== [] && array_is_list($value))) {
            return $this->isPatch
                ? throw new InvalidJob($field, sprintf('expected a map, got %s', Text::typeWord($value)))
                : $value;
        }
        try {
            return (object) Payload::normalize($value);
        } catch (InvalidJob $error) {
            throw $this->isPatch ? self::aboutSet($error) : $error;
        }
    }

    public function check(string $field, mixed $value): mixed
    {
        if (!$value instanceof \stdClass) {
            throw new InvalidJob($field, sprintf('expected a map, got %s', Text::typeWord($value)));
        }
        $fields = (array) $value;
        if ($this->max !== null && count($fields) > $this->max) {
            throw new InvalidJob($field, "at most $this->max fields are allowed");
        }

        return $fields;
    }

    /** Return an error about a payload as one about the field ``set``. */
    public static function aboutSet(InvalidJob $error): InvalidJob
    {
        return new InvalidJob('set' . substr($error->field, strlen('payload')), $error->problem, $error);
    }
}
