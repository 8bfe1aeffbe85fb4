<?php

declare(strict_types=1);

namespace MemoryWorker;

use MemoryWorker\Redis\Connection;
use MemoryWorker\Wire\Link;
use MemoryWorker\Wire\Keys;
use MemoryWorker\Wire\Producer;

/**
 * The queue in Redis.
 *
 * Make one for the whole process and keep it, also in a long-lived process. It connects at the first use. It is not for
 * use by several fibers at once.
 */
final class MemoryQueue implements Queue
{
    use WritesByPushing;
    use ReadsByCalling;

    private readonly Producer $producer;

    /**
     * ``$prefix`` is the workers' ``QUEUE_PREFIX``. ``$timeout`` bounds each round trip of a push, in seconds. A push that
     * reaches Redis later is refused, so your next push comes after it.
     */
    public function __construct(Connection $connection, string $prefix = 'mw', float $timeout = 5.0)
    {
        $this->producer = new Producer(new Link($connection), new Keys($prefix), $timeout);
    }

    public function pushMany(iterable $jobs): array
    {
        return $this->producer->push($jobs);
    }

    public function waitApplied(Receipt $receipt, float $timeout = 5.0): void
    {
        $this->producer->waitApplied($receipt, $timeout);
    }

    public function states(iterable $receipts): array
    {
        return $this->producer->states($receipts);
    }

    public function outcomes(?string $after = null, int $count = 100, float $timeout = 0.0): array
    {
        return $this->producer->outcomes($after, $count, $timeout);
    }

    public function callMany(array $jobs): array
    {
        return $this->producer->callMany($jobs);
    }

    public function status(): ?Result\QueueReport
    {
        return $this->producer->report();
    }
}
