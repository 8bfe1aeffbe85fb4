<?php

declare(strict_types=1);

namespace MemoryWorker\Result;

/** A file of a user: its chunks, and the group that most of them are in (null: none is in a group). */
final class FileInfo
{
    public function __construct(
        public readonly int $fileId,
        public readonly int $chunks,
        public readonly ?string $groupKey = null,
    ) {
    }
}
