<?php

declare(strict_types=1);

namespace MemoryWorker\Job;

/** Describe the collections: counts and the state of their indexes. */
final class Info implements ReadJob
{
    public function __construct(
        public readonly int|float $timeout = 5.0,
    ) {
    }

    public function op(): string
    {
        return 'info';
    }

    public function fields(): array
    {
        return Given::only([
            'timeout_ms' => Timeout::milliseconds($this->timeout),
        ]);
    }
}
