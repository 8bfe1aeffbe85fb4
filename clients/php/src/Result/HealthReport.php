<?php

declare(strict_types=1);

namespace MemoryWorker\Result;

/**
 * The answer of a worker that could reach Qdrant. ``version`` is Qdrant's, ``engineMs`` the time of its answer.
 *
 * ``queue`` is the state of the queue, or null if no worker has published it lately.
 */
final class HealthReport
{
    public function __construct(
        public readonly string $version,
        public readonly float $engineMs,
        public readonly ?QueueReport $queue = null,
    ) {
    }
}
