<?php

declare(strict_types=1);

namespace MemoryWorker\Job;

use MemoryWorker\Absent;

/**
 * Delete all points of a user.
 *
 * Without ``kind`` it deletes all kinds, and without ``namespace`` in every namespace. ``category``, ``groupKey`` and
 * ``fileId`` narrow it. ``before`` (unix seconds) narrows it to points whose ``created`` is lower, and
 * ``otherThanModel`` to points that have another ``embedding_model_id``.
 */
final class Purge implements WriteJob
{
    /**
     * @param string|Absent $kind
     * @param string|Absent $namespace
     * @param string|Absent $category
     * @param string|Absent $groupKey
     * @param int|Absent $fileId
     * @param int|Absent $before
     * @param int|Absent $otherThanModel
     */
    public function __construct(
        public readonly int|string $userId,
        public readonly string|Absent|null $kind = Absent::Field,
        public readonly string|Absent|null $namespace = Absent::Field,
        public readonly string|Absent|null $category = Absent::Field,
        public readonly string|Absent|null $groupKey = Absent::Field,
        public readonly int|Absent|null $fileId = Absent::Field,
        public readonly int|Absent|null $before = Absent::Field,
        public readonly int|Absent|null $otherThanModel = Absent::Field,
        public readonly ?string $ref = null,
        public readonly bool $notify = false,
    ) {
    }

    public function op(): string
    {
        return 'purge';
    }

    public function fields(): array
    {
        return Given::only([
            'kind' => Given::kindOfPurge($this),
            'namespace' => $this->namespace,
            'user_id' => $this->userId,
            'category' => $this->category,
            'group_key' => $this->groupKey,
            'file_id' => $this->fileId,
            'before' => $this->before,
            'other_than_model' => $this->otherThanModel,
            'ref' => $this->ref,
            'notify' => $this->notify,
        ]);
    }
}
