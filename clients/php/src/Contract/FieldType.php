<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

use MemoryWorker\Exception\InvalidJob;

/** @internal The type of a field of a job. */
interface FieldType
{
    /**
     * Convert what a program passes to the types of the contract. Values of other types are returned unchanged.
     *
     * @throws InvalidJob
     */
    public function normalize(string $field, mixed $value): mixed;

    /**
     * Check a normal value, and return it in its final type.
     *
     * @throws InvalidJob
     */
    public function check(string $field, mixed $value): mixed;

    /** Return whether null is a value of this type. */
    public function allowsNull(): bool;
}
