<?php

declare(strict_types=1);

namespace MemoryWorker\Job;

use MemoryWorker\Absent;
use MemoryWorker\Receipt;

/**
 * @internal A read that counts points of a user. `Count` and `Stats` have the same arguments.
 *
 * @phpstan-import-type ScalarValue from FieldCondition
 */
abstract class CountingJob implements ReadJob
{
    /**
     * @param string|Absent $kind
     * @param bool|'any'|Absent $active
     * @param string|Absent $category
     * @param string|Absent $groupKey
     * @param int|Absent $fileId
     * @param array<array-key, ScalarValue|FieldCondition|array<array-key, mixed>> $where
     */
    public function __construct(
        public readonly int|string $userId,
        public readonly string|Absent|null $kind = Absent::Field,
        public readonly ?string $namespace = null,
        public readonly bool|string|Absent|null $active = Absent::Field,
        public readonly string|Absent|null $category = Absent::Field,
        public readonly string|Absent|null $groupKey = Absent::Field,
        public readonly int|Absent|null $fileId = Absent::Field,
        public readonly array $where = [],
        public readonly ?Receipt $after = null,
        public readonly int|float $timeout = 5.0,
    ) {
    }

    public function fields(): array
    {
        return Given::only([
            'kind' => Given::kindOfRead($this->kind, $this->groupKey, $this->fileId),
            'namespace' => $this->namespace,
            'active' => $this->active,
            'category' => $this->category,
            'group_key' => $this->groupKey,
            'file_id' => $this->fileId,
            'where' => $this->where,
            'after' => $this->after?->toString(),
            'timeout_ms' => Timeout::milliseconds($this->timeout),
            'user_id' => $this->userId,
        ]);
    }
}
