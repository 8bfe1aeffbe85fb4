<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

/** @internal The names of the contract's types. */
final class Types
{
    public static function nameOf(mixed $value): string
    {
        return match (true) {
            $value === null => 'null',
            is_bool($value) => 'bool',
            is_int($value) => 'int',
            is_float($value) => 'float',
            is_string($value) => 'str',
            $value instanceof Bytes => 'bytes',
            $value instanceof \stdClass => 'object',
            is_array($value) => array_is_list($value) ? 'array' : 'object',
            default => get_debug_type($value),
        };
    }
}
