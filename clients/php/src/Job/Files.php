<?php

declare(strict_types=1);

namespace MemoryWorker\Job;

use MemoryWorker\Absent;
use MemoryWorker\Receipt;

/**
 * Count the chunks of each file of a user, with the group that most of them are in. ``limit`` is 1 to 10,000.
 *
 * @phpstan-import-type ScalarValue from FieldCondition
 */
final class Files implements ReadJob
{
    /**
     * @param string|Absent $groupKey
     * @param int|Absent $fileId
     * @param array<array-key, ScalarValue|FieldCondition|array<array-key, mixed>> $where
     */
    public function __construct(
        public readonly int|string $userId,
        public readonly int $limit = 10_000,
        public readonly string $kind = 'document',
        public readonly ?string $namespace = null,
        public readonly string|Absent|null $groupKey = Absent::Field,
        public readonly int|Absent|null $fileId = Absent::Field,
        public readonly array $where = [],
        public readonly ?Receipt $after = null,
        public readonly int|float $timeout = 5.0,
    ) {
    }

    public function op(): string
    {
        return 'files';
    }

    public function fields(): array
    {
        return Given::only([
            'kind' => $this->kind,
            'namespace' => $this->namespace,
            'group_key' => $this->groupKey,
            'file_id' => $this->fileId,
            'where' => $this->where,
            'after' => $this->after?->toString(),
            'timeout_ms' => Timeout::milliseconds($this->timeout),
            'user_id' => $this->userId,
            'limit' => $this->limit,
        ]);
    }
}
