<?php

declare(strict_types=1);

namespace MemoryWorker\Job;

/** Ask whether Qdrant answers and how old the backlog is. */
final class Health implements ReadJob
{
    public function __construct(
        public readonly int|float $timeout = 0.5,
    ) {
    }

    public function op(): string
    {
        return 'health';
    }

    public function fields(): array
    {
        return Given::only([
            'timeout_ms' => Timeout::milliseconds($this->timeout),
        ]);
    }
}
