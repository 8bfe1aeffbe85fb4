<?php

declare(strict_types=1);

namespace MemoryWorker\Job;

use MemoryWorker\Contract\Text;
use MemoryWorker\Exception\InvalidJob;

/** @internal Check times to wait. */
final class Timeout
{
    private const MAX_READ_S = 60.0;

    /**
     * Return the timeout of a read in milliseconds. It is given in seconds.
     *
     * @throws InvalidJob
     */
    public static function milliseconds(int|float $timeout): int
    {
        return max(1, (int) (self::seconds($timeout, self::MAX_READ_S) * 1000));
    }

    /**
     * Return a time in seconds, more than 0 and at most ``$maximum``.
     *
     * @throws InvalidJob
     */
    public static function seconds(int|float $timeout, float $maximum): float
    {
        if (!($timeout > 0 && $timeout <= $maximum)) {
            $problem = 'expected a number of seconds, more than 0 and at most %s, got %s';
            throw new InvalidJob('timeout', sprintf($problem, Text::general($maximum), Text::excerpt($timeout)));
        }

        return (float) $timeout;
    }
}
