<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

use MemoryWorker\Exception\InvalidJob;

/**
 * @internal Normalize and check the payloads of points. Every error names the path of the value.
 *
 * A normal payload has scalars, null, lists and maps. An array inside it is a list if its keys are 0, 1 and so on.
 */
final class Payload
{
    public const MAX_FIELDS = 256;
    private const MAX_DEPTH = 16;
    private const MAX_VALUES = 4096;
    private const MAX_KEY_CHARACTERS = 256;
    private const ADVICE = 'make it text, a number, a boolean, a list or a map first';

    /**
     * Convert the values of a payload to the types of the contract.
     *
     * @param array<array-key, mixed>|\stdClass $payload
     * @return array<array-key, mixed>
     *
     * @throws InvalidJob
     */
    public static function normalize(array|\stdClass $payload): array
    {
        $fields = (array) $payload;
        foreach ($fields as $value) {
            if (is_array($value) || is_object($value)) {
                self::checkCount($fields);
                break;
            }
        }

        return self::normalizeMap([], $fields, 1);
    }

    /**
     * Check that a normal payload can be stored, and that its fields have the types that they have in ``$kind``.
     *
     * @param array<array-key, mixed> $payload
     *
     * @throws InvalidJob
     */
    public static function check(array $payload, Kind $kind): void
    {
        if (count($payload) > self::MAX_FIELDS) {
            $problem = 'at most %d fields are allowed, got %d';
            throw new InvalidJob('payload', sprintf($problem, self::MAX_FIELDS, count($payload)));
        }
        foreach ($payload as $name => $value) {
            $expected = $kind->payloadTypes[$name] ?? null;
            $given = Text::typeWord($value);
            if ($expected !== null && $value !== null && $given !== $expected) {
                throw new InvalidJob("payload.$name", "expected $expected, got $given");
            }
            self::checkKey([], (string) $name);
        }
        foreach ($payload as $name => $value) {
            if (is_float($value) || is_array($value) || $value instanceof \stdClass) {
                self::checkCount($payload);
                self::checkValue([(string) $name], $value, 1);
            }
        }
    }

    /** @param array<array-key, mixed> $values */
    private static function checkCount(array $values): void
    {
        $count = 0;
        $containers = [$values];
        while ($containers !== []) {
            $children = array_pop($containers);
            $count += count($children);
            if ($count > self::MAX_VALUES) {
                $problem = 'at most %s values are allowed, those in lists and maps included';
                throw new InvalidJob('payload', sprintf($problem, number_format(self::MAX_VALUES)));
            }
            foreach ($children as $child) {
                if (is_array($child) || $child instanceof \stdClass) {
                    $containers[] = (array) $child;
                }
            }
        }
    }

    /** @param non-empty-list<string|int> $path */
    private static function checkValue(array $path, mixed $value, int $depth): void
    {
        if (is_float($value) && !is_finite($value)) {
            throw self::invalid($path, 'a number must be finite');
        }
        if (is_array($value) || $value instanceof \stdClass) {
            self::checkDepth($path, $depth);
            $isMap = $value instanceof \stdClass || !array_is_list($value);
            foreach ((array) $value as $key => $child) {
                $step = $isMap ? (string) $key : $key;
                if ($isMap) {
                    self::checkKey($path, (string) $key);
                }
                self::checkValue([...$path, $step], $child, $depth + 1);
            }
        }
    }

    /** @param list<string|int> $path */
    private static function checkDepth(array $path, int $depth): void
    {
        if ($depth >= self::MAX_DEPTH) {
            throw self::invalid($path, sprintf('at most %d levels of nesting are allowed', self::MAX_DEPTH));
        }
    }

    /** @param list<string|int> $path */
    private static function checkKey(array $path, string $key): void
    {
        if ($key === '' || strlen($key) > self::MAX_KEY_CHARACTERS && Text::length($key) > self::MAX_KEY_CHARACTERS) {
            $problem = 'a field name must be a string of 1 to %d characters, got %d characters';
            throw self::invalid($path, sprintf($problem, self::MAX_KEY_CHARACTERS, Text::length($key)));
        }
    }

    /**
     * @param list<string|int> $path
     * @param array<array-key, mixed> $values
     * @return array<array-key, mixed>
     */
    private static function normalizeMap(array $path, array $values, int $depth): array
    {
        $normal = [];
        foreach ($values as $key => $value) {
            $name = Text::scrub((string) $key);
            if (array_key_exists($name, $normal)) {
                throw self::invalid([...$path, $name], 'two field names differ only in bytes that are not UTF-8');
            }
            $normal[$name] = is_int($value) || $value === null
                ? $value
                : self::normalizeValue([...$path, $name], $value, $depth);
        }

        return $normal;
    }

    /** @param non-empty-list<string|int> $path */
    private static function normalizeValue(array $path, mixed $value, int $depth): mixed
    {
        if (is_array($value) || $value instanceof \stdClass) {
            self::checkDepth($path, $depth);
            if ($value instanceof \stdClass) {
                return (object) self::normalizeMap($path, (array) $value, $depth + 1);
            }
            if (!array_is_list($value)) {
                return self::normalizeMap($path, $value, $depth + 1);
            }
            $normal = [];
            foreach ($value as $position => $child) {
                $normal[] = self::normalizeValue([...$path, $position], $child, $depth + 1);
            }

            return $normal;
        }

        return match (true) {
            is_string($value) => Text::scrub($value),
            is_scalar($value), $value === null => $value,
            $value instanceof \BackedEnum => $value->value,
            $value instanceof \DateTimeInterface => self::isoTime($value),
            $value instanceof \Stringable => Text::scrub((string) $value),
            default => throw self::invalid(
                $path,
                sprintf('a value of type %s cannot be stored: %s', Text::typeWord($value), self::ADVICE),
            ),
        };
    }

    private static function isoTime(\DateTimeInterface $time): string
    {
        return $time->format($time->format('u') === '000000' ? 'Y-m-d\TH:i:sP' : 'Y-m-d\TH:i:s.uP');
    }

    /** @param list<string|int> $path */
    private static function invalid(array $path, string $problem): InvalidJob
    {
        $field = 'payload';
        foreach ($path as $at => $step) {
            $field .= match (true) {
                is_int($step) => "[$step]",
                $at === 0 || preg_match('/^[\w-]{1,64}$/uD', $step) === 1 => ".$step",
                default => '.?', // it may be data, so errors do not show it
            };
        }

        return new InvalidJob($field, $problem);
    }
}
