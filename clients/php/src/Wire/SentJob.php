<?php

declare(strict_types=1);

namespace MemoryWorker\Wire;

/** @internal A read job that was enqueued, and what is needed to take it back. */
final class SentJob
{
    /** @param string $item the job as it is in the list of calls, if it is there */
    public function __construct(
        public readonly string $id,
        public readonly string $item,
        public readonly int $lifeMs,
    ) {
    }
}
