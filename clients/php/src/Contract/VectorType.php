<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

use MemoryWorker\Exception\InvalidJob;

/** @internal A vector. It is normalized to packed bytes. */
final class VectorType implements FieldType
{
    public function allowsNull(): bool
    {
        return false;
    }

    public function normalize(string $field, mixed $value): mixed
    {
        return Vector::pack($value);
    }

    public function check(string $field, mixed $value): mixed
    {
        if (!$value instanceof Bytes) {
            throw new InvalidJob($field, sprintf('expected bytes or a list, got %s', Text::typeWord($value)));
        }

        return $value;
    }
}
