<?php

declare(strict_types=1);

namespace MemoryWorker\Result;

/**
 * The state of the queue ``at`` a time of Redis's clock, in unix seconds. Workers publish it every few seconds.
 *
 * ``waiting`` counts write jobs, ``oldestAgeS`` is the age of the oldest in seconds, ``dead`` counts dead letters, and
 * ``readsWaiting`` counts read jobs. ``storeError`` says why Qdrant does not answer, if it does not.
 */
final class QueueReport
{
    public function __construct(
        public readonly float $at,
        public readonly int $waiting,
        public readonly int $waitingBytes,
        public readonly float $oldestAgeS,
        public readonly int $dead,
        public readonly int $readsWaiting,
        public readonly ?string $storeError = null,
    ) {
    }
}
