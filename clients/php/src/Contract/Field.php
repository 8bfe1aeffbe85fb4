<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

use MemoryWorker\Absent;

/** @internal A field of a job: its type, and the value that it has if it is left out. */
final class Field
{
    /** @param mixed $default ``Absent::Field``: it has no default */
    public function __construct(
        public readonly FieldType $type,
        public readonly mixed $default = Absent::Field,
        public readonly bool $isRequired = false,
    ) {
    }
}
