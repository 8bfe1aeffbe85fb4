<?php

declare(strict_types=1);

namespace MemoryWorker\Job;

use MemoryWorker\Absent;

/**
 * Change some payload fields of existing points. Their vectors stay.
 *
 * Give exactly one target: ``pointIds``, ``category``, ``groupKey`` or ``fileId``. ``set`` has new values, and
 * ``unset`` the names of fields to remove. Points that do not exist are no error. With ``pointIds``, the namespace
 * ``*`` is the base collection and every namespace. Without ``kind``, a ``groupKey`` or ``fileId`` is about documents,
 * and else it is about memories.
 */
final class Patch implements WriteJob
{
    /**
     * @param iterable<string>|Absent $pointIds
     * @param string|Absent $category
     * @param string|Absent $groupKey
     * @param int|Absent $fileId
     * @param array<array-key, mixed>|\stdClass $set
     * @param iterable<string> $unset
     * @param string|Absent $kind
     */
    public function __construct(
        public readonly int|string $userId,
        public readonly iterable|Absent|null $pointIds = Absent::Field,
        public readonly string|Absent|null $category = Absent::Field,
        public readonly string|Absent|null $groupKey = Absent::Field,
        public readonly int|Absent|null $fileId = Absent::Field,
        public readonly array|\stdClass $set = [],
        public readonly iterable $unset = [],
        public readonly string|Absent|null $kind = Absent::Field,
        public readonly ?string $namespace = null,
        public readonly ?string $ref = null,
        public readonly bool $notify = false,
    ) {
    }

    public function op(): string
    {
        return 'patch';
    }

    public function fields(): array
    {
        return Given::only([
            'kind' => Given::kindOfPatch($this),
            'namespace' => $this->namespace,
            'user_id' => $this->userId,
            'point_ids' => $this->pointIds,
            'category' => $this->category,
            'group_key' => $this->groupKey,
            'file_id' => $this->fileId,
            'set' => $this->set,
            'unset' => $this->unset,
            'ref' => $this->ref,
            'notify' => $this->notify,
        ]);
    }
}
