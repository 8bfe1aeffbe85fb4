<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

use MemoryWorker\Exception\InvalidJob;

/** @internal Check conditions on fields of the payload. */
final class WhereCheck
{
    /**
     * @param array<array-key, mixed> $where
     *
     * @throws InvalidJob for a condition without a test, on a field that ``$kind`` does not have, or of a wrong type
     */
    public static function check(array $where, Kind $kind): void
    {
        foreach ($where as $name => $condition) {
            $field = (string) $name;
            $expected = self::typeOf($field, $kind);
            if ($expected === null) {
                $fields = array_map(strval(...), array_keys($kind->payloadTypes));
                sort($fields, SORT_STRING);
                $shown = Text::repr($kind->name);
                $problem = "is none of the fields of kind $shown: " . implode(', ', $fields);
                throw new InvalidJob('where.' . Text::first($field, 80), $problem);
            }
            $tests = self::tests($condition);
            if ($tests === []) {
                throw new InvalidJob("where.$field", 'give at least one of is, any, not_any, gte and lte');
            }
            foreach ($tests as $test => $value) {
                self::checkValue("where.$field$test", $value, $expected, !in_array($test, ['.gte', '.lte'], true));
            }
        }
    }

    private static function typeOf(string $field, Kind $kind): ?string
    {
        $isUser = $field === 'user_id' && $kind->userIds === 'integer';

        return $isUser ? ScalarType::INTEGER : $kind->payloadTypes[$field] ?? null;
    }

    /** @return array<string, mixed> each value of a condition, by the path of its test */
    private static function tests(mixed $condition): array
    {
        if (!$condition instanceof \stdClass) {
            return ['' => $condition];
        }
        $given = (array) $condition;
        $tests = [];
        foreach (['is', 'gte', 'lte'] as $name) {
            if (array_key_exists($name, $given)) {
                $tests[".$name"] = $given[$name];
            }
        }
        foreach (['any', 'not_any'] as $name) {
            foreach ((array) ($given[$name] ?? []) as $position => $value) {
                $tests[".{$name}[$position]"] = $value;
            }
        }

        return $tests;
    }

    private static function checkValue(string $path, mixed $value, string $expected, bool $isExact): void
    {
        $given = Text::typeWord($value);
        if (!$isExact) {
            $isNumber = is_int($value) || is_float($value) && is_finite($value);
            if (!$isNumber || !in_array($expected, [ScalarType::INTEGER, ScalarType::FLOAT], true)) {
                throw new InvalidJob($path, "needs a number and a field of numbers, the field has $expected");
            }
        } elseif ($expected === ScalarType::FLOAT) {
            throw new InvalidJob($path, 'a field of floats can only be compared by gte and lte');
        } elseif ($given !== $expected) {
            throw new InvalidJob($path, "expected $expected, got $given");
        }
    }
}
