<?php

declare(strict_types=1);

namespace MemoryWorker\Testing;

use MemoryWorker\Exception\DeadLettered;
use MemoryWorker\Exception\NotApplied;
use MemoryWorker\Queue;
use MemoryWorker\ReadsByCalling;
use MemoryWorker\Receipt;
use MemoryWorker\Result\QueueReport;
use MemoryWorker\WritesByPushing;

/**
 * A queue for end-to-end tests of an app with a real Redis and a real worker.
 *
 * Each write waits until it is applied. So the next read finds it, and the app need not wait.
 */
final class SynchronousQueue implements Queue
{
    use WritesByPushing;
    use ReadsByCalling;

    private const STATES_AT_ONCE = 1000;

    /** @param int|float $timeout how long a push waits until its jobs were applied, in seconds */
    public function __construct(private readonly Queue $queue, private readonly int|float $timeout = 10.0)
    {
    }

    /**
     * Push jobs and wait until all of them were applied.
     *
     * @throws NotApplied if they were not applied in time; is a worker running?
     * @throws DeadLettered if one of them can never be applied
     */
    public function pushMany(iterable $jobs): array
    {
        $receipts = $this->queue->pushMany($jobs);
        $last = [];
        foreach ($receipts as $receipt) {
            $last[$receipt->partition] = $receipt;
        }
        $deadline = hrtime(true) / 1e9 + $this->timeout;
        foreach ($last as $receipt) {
            $this->queue->waitApplied($receipt, max(0.001, $deadline - hrtime(true) / 1e9));
        }
        foreach (array_chunk($receipts, self::STATES_AT_ONCE) as $some) {
            $this->checkApplied($some);
        }

        return $receipts;
    }

    public function callMany(array $jobs): array
    {
        return $this->queue->callMany($jobs);
    }

    public function waitApplied(Receipt $receipt, int|float $timeout = 5.0): void
    {
        $this->queue->waitApplied($receipt, $timeout);
    }

    public function states(iterable $receipts): array
    {
        return $this->queue->states($receipts);
    }

    public function outcomes(?string $after = null, int $count = 100, int|float $timeout = 0.0): array
    {
        return $this->queue->outcomes($after, $count, $timeout);
    }

    public function status(): ?QueueReport
    {
        return $this->queue->status();
    }

    /** @param list<Receipt> $receipts */
    private function checkApplied(array $receipts): void
    {
        foreach ($this->queue->states($receipts) as $state) {
            if ($state->state === 'dead') {
                throw new DeadLettered((string) $state->receipt, $state->reason, $state->detail);
            }
        }
    }
}
