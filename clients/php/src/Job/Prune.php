<?php

declare(strict_types=1);

namespace MemoryWorker\Job;

/**
 * Delete the chunks of a file that an older run wrote: those whose ``_version`` is lower or absent.
 *
 * Push it after the chunks of the new run, whose payloads have ``_version``.
 */
final class Prune implements WriteJob
{
    public function __construct(
        public readonly int|string $userId,
        public readonly int $fileId,
        public readonly int $version,
        public readonly string $kind = 'document',
        public readonly ?string $namespace = null,
        public readonly ?string $ref = null,
        public readonly bool $notify = false,
    ) {
    }

    public function op(): string
    {
        return 'prune';
    }

    public function fields(): array
    {
        return Given::only([
            'kind' => $this->kind,
            'namespace' => $this->namespace,
            'user_id' => $this->userId,
            'file_id' => $this->fileId,
            'version' => $this->version,
            'ref' => $this->ref,
            'notify' => $this->notify,
        ]);
    }
}
