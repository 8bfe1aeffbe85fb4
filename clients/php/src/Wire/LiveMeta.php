<?php

declare(strict_types=1);

namespace MemoryWorker\Wire;

use MemoryWorker\Contract\Limits;
use MemoryWorker\Exception\InvalidJob;

/**
 * @internal The limits of the queue and the clock of Redis, which are read again when they are old.
 *
 * So a long-lived process follows the settings of the workers, a new number of partitions, and a clock that was set.
 */
final class LiveMeta
{
    /** Up to this age, the limits are not read again before a job is refused. */
    private const FRESH_S = 5.0;
    /** From this age on, the limits are read again before any check. */
    private const MAX_AGE_S = 60.0;

    public readonly Clock $clock;
    private QueueMeta $meta;
    private float $readAt = -INF;

    public function __construct(private readonly Link $link, private readonly Keys $keys)
    {
        $this->clock = new Clock();
        $this->meta = new QueueMeta();
    }

    public function current(): QueueMeta
    {
        return $this->meta;
    }

    /**
     * Return the result of ``$check`` for the limits that workers have published.
     *
     * If it throws `InvalidJob`, read the limits again and check once more: they may have changed.
     *
     * @template T
     * @param callable(Limits): T $check
     * @return T
     *
     * @throws InvalidJob
     */
    public function check(TimeLimit $limit, callable $check): mixed
    {
        if ($this->age() >= ($this->meta->limits->hasDimensions() ? self::MAX_AGE_S : self::FRESH_S)) {
            $this->refresh($limit);
        }
        try {
            return $check($this->meta->limits);
        } catch (InvalidJob $error) {
            if ($this->age() < self::FRESH_S) {
                throw $error;
            }
        }
        $this->refresh($limit);

        return $check($this->meta->limits);
    }

    /** Read the limits and Redis's clock, unless this was done since the monotonic time ``$since``. */
    public function refresh(TimeLimit $limit, float $since = INF): void
    {
        if ($this->readAt >= $since) {
            return;
        }
        // If Redis has lost the limits, a worker publishes them again. Until then the old ones are used.
        $this->meta = QueueMeta::read($this->link, $this->keys, $limit) ?? $this->meta;
        $this->clock->refresh($this->link, $limit);
        $this->readAt = TimeLimit::now();
    }

    /** Read the limits again before the next check. */
    public function forget(): void
    {
        $this->readAt = -INF;
    }

    private function age(): float
    {
        return TimeLimit::now() - $this->readAt;
    }
}
