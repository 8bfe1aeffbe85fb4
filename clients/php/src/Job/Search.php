<?php

declare(strict_types=1);

namespace MemoryWorker\Job;

use MemoryWorker\Absent;
use MemoryWorker\Receipt;

/**
 * Find the points of a user that are nearest to ``vector``, best first.
 *
 * With ``like`` instead of ``vector``, find the points nearest to that point, which is left out itself. ``limit`` is 1
 * to 200. ``limit`` and ``minScore`` default to 5 and 0.7 for memories, and to 10 and 0.3 for documents. If scores are
 * distances (euclid, manhattan), ``minScore`` is the largest distance. ``namespaces`` are searched at once, and null in
 * them is the base collection.
 *
 * @phpstan-import-type ScalarValue from FieldCondition
 */
final class Search implements ReadJob
{
    /**
     * @param string|iterable<int|float>|Absent $vector
     * @param string|Absent $like
     * @param string|Absent $kind
     * @param iterable<string|null>|Absent $namespaces
     * @param string|Absent $category
     * @param string|Absent $groupKey
     * @param int|Absent $fileId
     * @param iterable<string> $notCategory
     * @param iterable<string> $exclude
     * @param array<array-key, ScalarValue|FieldCondition|array<array-key, mixed>> $where
     * @param iterable<string>|null $fields
     */
    public function __construct(
        public readonly int|string $userId,
        public readonly string|iterable|Absent|null $vector = Absent::Field,
        public readonly string|Absent|null $like = Absent::Field,
        public readonly string|Absent|null $kind = Absent::Field,
        public readonly ?string $namespace = null,
        public readonly iterable|Absent|null $namespaces = Absent::Field,
        public readonly ?int $limit = null,
        public readonly ?float $minScore = null,
        public readonly string|Absent|null $category = Absent::Field,
        public readonly string|Absent|null $groupKey = Absent::Field,
        public readonly int|Absent|null $fileId = Absent::Field,
        public readonly iterable $notCategory = [],
        public readonly iterable $exclude = [],
        public readonly array $where = [],
        public readonly ?iterable $fields = null,
        public readonly ?Receipt $after = null,
        public readonly int|float $timeout = 5.0,
    ) {
    }

    public function op(): string
    {
        return 'search';
    }

    public function fields(): array
    {
        return Given::only([
            'kind' => Given::kindOfRead($this->kind, $this->groupKey, $this->fileId),
            'namespace' => $this->namespace,
            'user_id' => $this->userId,
            'vector' => $this->vector,
            'like' => $this->like,
            'limit' => $this->limit,
            'min_score' => $this->minScore,
            'namespaces' => $this->namespaces,
            'category' => $this->category,
            'group_key' => $this->groupKey,
            'file_id' => $this->fileId,
            'not_category' => $this->notCategory,
            'exclude' => $this->exclude,
            'where' => $this->where,
            'fields' => $this->fields ?? Absent::Field,
            'after' => $this->after?->toString(),
            'timeout_ms' => Timeout::milliseconds($this->timeout),
        ]);
    }
}
