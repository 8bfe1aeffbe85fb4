<?php

declare(strict_types=1);

namespace MemoryWorker\Job;

use MemoryWorker\Absent;
use MemoryWorker\Receipt;

/**
 * Read the points of a user page by page, in the order of their ids or newest first.
 *
 * ``cursor`` is that of the page before. ``limit`` is 1 to 1,000. A page may end early if the answer becomes too large.
 *
 * @phpstan-import-type ScalarValue from FieldCondition
 */
final class ListPoints implements ReadJob
{
    /**
     * @param string|Absent $kind
     * @param 'id'|'created'|'updated' $order
     * @param bool|'any'|Absent $active
     * @param string|Absent $category
     * @param string|Absent $groupKey
     * @param int|Absent $fileId
     * @param array<array-key, ScalarValue|FieldCondition|array<array-key, mixed>> $where
     * @param iterable<string>|null $fields
     */
    public function __construct(
        public readonly int|string $userId,
        public readonly string|Absent|null $kind = Absent::Field,
        public readonly ?string $namespace = null,
        public readonly string $order = 'id',
        public readonly int $limit = 100,
        public readonly ?string $cursor = null,
        public readonly bool|string|Absent|null $active = Absent::Field,
        public readonly string|Absent|null $category = Absent::Field,
        public readonly string|Absent|null $groupKey = Absent::Field,
        public readonly int|Absent|null $fileId = Absent::Field,
        public readonly array $where = [],
        public readonly ?iterable $fields = null,
        public readonly ?Receipt $after = null,
        public readonly int|float $timeout = 5.0,
    ) {
    }

    public function op(): string
    {
        return 'list';
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
            'order' => $this->order,
            'limit' => $this->limit,
            'cursor' => $this->cursor,
            'fields' => $this->fields ?? Absent::Field,
        ]);
    }
}
