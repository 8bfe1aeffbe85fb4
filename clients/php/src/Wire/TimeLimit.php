<?php

declare(strict_types=1);

namespace MemoryWorker\Wire;

use MemoryWorker\Contract\Text;
use MemoryWorker\Exception\QueueUnavailable;

/**
 * @internal The time that one request may wait for Redis, over all of its steps.
 *
 * The time between the steps does not count.
 */
final class TimeLimit
{
    private float $left;
    private ?float $began = null;

    /** @param float $seconds more than 0 */
    public function __construct(private readonly float $seconds)
    {
        $this->left = $seconds;
    }

    /** Return the monotonic time in seconds. */
    public static function now(): float
    {
        return hrtime(true) / 1e9;
    }

    /**
     * @template T
     * @param callable(): T $step
     * @return T
     */
    public function run(callable $step): mixed
    {
        if ($this->began !== null) {
            return $step();
        }
        $this->began = self::now();
        try {
            return $step();
        } finally {
            $this->left = $this->remaining();
            $this->began = null;
        }
    }

    /** Return the seconds that are left. */
    public function remaining(): float
    {
        return max(0.0, $this->left - ($this->began === null ? 0.0 : self::now() - $this->began));
    }

    /** @throws QueueUnavailable if no time is left */
    public function check(?\Throwable $previous = null): float
    {
        $remaining = $this->remaining();
        if ($remaining <= 0.0) {
            $waited = Text::general($this->seconds, 3);
            throw new QueueUnavailable("Redis: no answer within $waited s", 0, $previous);
        }

        return $remaining;
    }
}
