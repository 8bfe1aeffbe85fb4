<?php

declare(strict_types=1);

namespace MemoryWorker\Job;

/**
 * Delete the points with these ids, up to 1,000. Ids that do not exist are no error.
 *
 * The namespace ``*`` is the base collection and every namespace.
 */
final class Delete implements WriteJob
{
    /**
     * @param iterable<string> $pointIds
     */
    public function __construct(
        public readonly int|string $userId,
        public readonly iterable $pointIds,
        public readonly string $kind = 'memory',
        public readonly ?string $namespace = null,
        public readonly ?string $ref = null,
        public readonly bool $notify = false,
    ) {
    }

    public function op(): string
    {
        return 'delete';
    }

    public function fields(): array
    {
        return Given::only([
            'kind' => $this->kind,
            'namespace' => $this->namespace,
            'user_id' => $this->userId,
            'point_ids' => $this->pointIds,
            'ref' => $this->ref,
            'notify' => $this->notify,
        ]);
    }
}
