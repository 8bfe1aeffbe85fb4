<?php

declare(strict_types=1);

namespace MemoryWorker;

use MemoryWorker\Exception\DeadLettered;
use MemoryWorker\Exception\InvalidJob;
use MemoryWorker\Exception\NotApplied;
use MemoryWorker\Exception\QueueUnavailable;
use MemoryWorker\Exception\UnknownReceipt;
use MemoryWorker\Result\QueueReport;

/**
 * Learn what became of jobs, and how the queue is doing. None of these methods needs a running worker.
 */
interface Reports
{
    /**
     * Wait until the job of ``receipt`` has been applied. From then on, searches see its effect.
     *
     * ``timeout`` is in seconds, at most an hour. For a dead letter that was replayed, it waits for the replay.
     *
     * @throws NotApplied after ``timeout`` seconds; the job is still queued
     * @throws UnknownReceipt if Redis has lost data since the push; push again
     * @throws DeadLettered if the job can never be applied
     * @throws QueueUnavailable if Redis cannot be reached
     */
    public function waitApplied(Receipt $receipt, int|float $timeout = 5.0): void;

    /**
     * Return the state of each job of up to 1,000 receipts, in their order. This needs no running worker.
     *
     * @param iterable<Receipt> $receipts
     * @return list<JobState>
     *
     * @throws InvalidJob names a wrong argument
     * @throws QueueUnavailable if Redis cannot be reached
     */
    public function states(iterable $receipts): array;

    /**
     * Return up to ``count`` outcomes (at most 1,000) behind the one with the id ``after``, oldest first.
     *
     * Keep the ``id`` of the last one, and give it as ``after`` in the next call. Null begins with the oldest that is
     * kept. If there are none, wait for one for ``timeout`` seconds (at most an hour), then return an empty list.
     *
     * Redis keeps about the last ``OUTCOMES_MAX`` outcomes. If the outcome ``after`` is no longer kept, later ones may
     * be lost, too. Then the first outcome has ``gap``. Ask `states` for the receipts that you still wait for.
     *
     * @return list<Outcome>
     *
     * @throws InvalidJob names a wrong argument
     * @throws QueueUnavailable if Redis cannot be reached
     */
    public function outcomes(?string $after = null, int $count = 100, int|float $timeout = 0.0): array;

    /**
     * Return the latest state of the queue. It takes one command of Redis, and no worker.
     *
     * Null means that no worker has published it for some seconds, so probably none is running.
     *
     * @throws QueueUnavailable if Redis cannot be reached
     */
    public function status(): ?QueueReport;
}
