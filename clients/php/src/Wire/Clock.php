<?php

declare(strict_types=1);

namespace MemoryWorker\Wire;

/**
 * @internal The time of Redis, computed from the local monotonic clock between refreshes.
 *
 * The local wall clock is not trusted: it may be wrong by hours, and it may be set.
 */
final class Clock
{
    private float $earliestSinceStartMs;

    public function __construct()
    {
        $this->earliestSinceStartMs = microtime(true) * 1000 - TimeLimit::now() * 1000;
    }

    public function refresh(Link $link, TimeLimit $limit): void
    {
        $time = $link->run($limit, static fn (): array => Decoded::exactly(
            2,
            $link->command(['TIME'], $limit),
        ));
        $answered = TimeLimit::now();
        [$seconds, $micros] = Decoded::texts($time);
        $this->earliestSinceStartMs = (float) $seconds * 1000 + (float) $micros / 1000 - $answered * 1000;
    }

    /** Return a lower bound of Redis's time in unix milliseconds, however long the last answer took to arrive. */
    public function earliestMs(): float
    {
        return TimeLimit::now() * 1000 + $this->earliestSinceStartMs;
    }
}
