<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Support;

use MemoryWorker\Receipt;

/** Makes results comparable with the golden files. */
final class Plain
{
    /** Return a result as a map of its fields, by their names in the contract. */
    public static function of(mixed $value): mixed
    {
        if ($value instanceof Receipt) {
            return (string) $value;
        }
        if (is_object($value)) {
            $map = [];
            foreach (get_object_vars($value) as $name => $field) {
                $isBytes = $name === 'vector' && is_string($field);
                $map[strtolower((string) preg_replace('/[A-Z]/', '_$0', $name))] = $isBytes
                    ? ['base64' => base64_encode($field)]
                    : ($name === 'payload' ? $field : self::of($field));
            }

            return $map;
        }

        return is_array($value) ? array_map(self::of(...), $value) : $value;
    }

    /** Return JSON with the fields of all maps in one order. An empty map and an empty list look alike. */
    public static function json(mixed $value): string
    {
        return json_encode(self::sorted($value), JSON_THROW_ON_ERROR | JSON_PRESERVE_ZERO_FRACTION);
    }

    private static function sorted(mixed $value): mixed
    {
        if (!is_array($value) && !$value instanceof \stdClass) {
            return $value;
        }
        $fields = array_map(self::sorted(...), (array) $value);
        if (!array_is_list($fields)) {
            ksort($fields, SORT_STRING);
        }

        return $fields;
    }
}
