<?php

declare(strict_types=1);

namespace MemoryWorker\Job;

use MemoryWorker\Receipt;

/**
 * Run up to 16 searches at once. Each has its own hits or its own error.
 *
 * ``after`` and ``timeout`` of the searches themselves have no effect.
 */
final class SearchMany implements ReadJob
{
    /**
     * @param iterable<Search|array<array-key, mixed>> $searches
     */
    public function __construct(
        public readonly iterable $searches,
        public readonly ?Receipt $after = null,
        public readonly int|float $timeout = 5.0,
    ) {
    }

    public function op(): string
    {
        return 'search_many';
    }

    public function fields(): array
    {
        return Given::only([
            'searches' => $this->searches,
            'after' => $this->after?->toString(),
            'timeout_ms' => Timeout::milliseconds($this->timeout),
        ]);
    }
}
