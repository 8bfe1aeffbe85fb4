<?php

declare(strict_types=1);

namespace MemoryWorker\Job;

use MemoryWorker\Absent;
use MemoryWorker\Receipt;

/** Read points by their ids, up to 1,000, or up to 250 with ``vectors``. Ids that do not exist are left out. */
final class Get implements ReadJob
{
    /**
     * @param iterable<string> $pointIds
     * @param iterable<string>|null $fields
     */
    public function __construct(
        public readonly int|string $userId,
        public readonly iterable $pointIds,
        public readonly string $kind = 'memory',
        public readonly ?string $namespace = null,
        public readonly bool $vectors = false,
        public readonly ?iterable $fields = null,
        public readonly ?Receipt $after = null,
        public readonly int|float $timeout = 5.0,
    ) {
    }

    public function op(): string
    {
        return 'get';
    }

    public function fields(): array
    {
        return Given::only([
            'kind' => $this->kind,
            'namespace' => $this->namespace,
            'user_id' => $this->userId,
            'point_ids' => $this->pointIds,
            'vectors' => $this->vectors,
            'fields' => $this->fields ?? Absent::Field,
            'after' => $this->after?->toString(),
            'timeout_ms' => Timeout::milliseconds($this->timeout),
        ]);
    }
}
