<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

use MemoryWorker\Exception\InvalidJob;

/** @internal Pack vectors as float32 little-endian bytes, and check them. */
final class Vector
{
    private const FLOAT_BYTES = 4;
    private const MAX_DIMENSIONS = 65_536;
    /**
     * Qdrant normalizes in float32. It stores vectors with a larger norm as zero, and does not normalize those below.
     */
    private const MIN_NORM = 2.0 ** -11;
    private const MAX_NORM = 2.0 ** 63;
    private const ADVICE = "pass a list of numbers, or float32 bytes: pack('g*', ...\$numbers)";

    /**
     * Return the bytes of a vector, 4 bytes per dimension.
     *
     * @throws InvalidJob
     */
    public static function pack(mixed $vector): Bytes
    {
        if ($vector instanceof Bytes) {
            return $vector;
        }
        if (is_string($vector)) {
            return new Bytes($vector);
        }
        if (!is_iterable($vector)) {
            throw new InvalidJob('vector', self::notInOrder($vector));
        }
        if (is_array($vector) && !array_is_list($vector)) {
            throw new InvalidJob('vector', self::notInOrder($vector));
        }
        $numbers = [];
        foreach ($vector as $number) {
            if (!is_float($number) && !is_int($number)) {
                $problem = 'expected a number within the range of float32, got ' . Text::typeWord($number);
                throw new InvalidJob(sprintf('vector[%d]', count($numbers)), $problem);
            }
            $numbers[] = $number;
            if (count($numbers) > self::MAX_DIMENSIONS) {
                break;
            }
        }

        return new Bytes($numbers === [] ? '' : pack('g*', ...$numbers));
    }

    /**
     * Check that there are ``$dimension`` finite numbers, and that their norm is one that searches can find.
     *
     * ``$dimension`` null allows from 1 to 65,536 numbers. The norm has a lower limit for vectors that Qdrant
     * normalizes.
     *
     * @throws InvalidJob
     */
    public static function check(string $packed, ?int $dimension, bool $isNormalized): void
    {
        $bytes = strlen($packed);
        $dimension ??= min(max(1, intdiv($bytes, self::FLOAT_BYTES)), self::MAX_DIMENSIONS);
        if ($bytes !== $dimension * self::FLOAT_BYTES) {
            $given = [Text::general($bytes / self::FLOAT_BYTES), $bytes];
            $problem = 'expected %d dimensions (%d bytes), got %s (%d bytes)';
            throw new InvalidJob('vector', sprintf($problem, $dimension, $dimension * self::FLOAT_BYTES, ...$given));
        }
        self::checkNorm($packed, $isNormalized ? self::MIN_NORM : 0.0);
    }

    private static function notInOrder(mixed $vector): string
    {
        return sprintf('expected numbers in order, got %s: %s', Text::typeWord($vector), self::ADVICE);
    }

    private static function checkNorm(string $packed, float $minimum): void
    {
        /** @var array<int, float> $numbers */
        $numbers = unpack('g*', $packed);
        $squares = 0.0;
        foreach ($numbers as $position => $number) { // counted from 1
            $squares += $number * $number; // cannot exceed the range of float64, unless the number is not finite
            if (!is_finite($squares)) {
                $field = sprintf('vector[%d]', $position - 1);
                throw new InvalidJob($field, 'must be a finite number within the range of float32');
            }
        }
        $norm = sqrt($squares);
        if ($norm < $minimum && $norm === 0.0) {
            throw new InvalidJob('vector', 'all numbers are zero, and no search can find a vector without a direction');
        }
        if ($norm < $minimum || $norm > self::MAX_NORM) {
            $bounds = [$minimum, self::MAX_NORM, $norm];
            $shown = array_map(static fn (float $one): string => Text::general($one, 3), $bounds);
            throw new InvalidJob('vector', vsprintf('its norm must be from %s to %s to be found, got %s', $shown));
        }
    }
}
