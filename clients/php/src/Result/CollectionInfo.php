<?php

declare(strict_types=1);

namespace MemoryWorker\Result;

/**
 * The state of a collection. ``status`` is Qdrant's: ``green``, ``yellow`` or ``red``.
 *
 * ``indexingHeld`` is true in bulk mode, in which new points are not indexed. ``engineVersion`` is Qdrant's.
 */
final class CollectionInfo
{
    /**
     * @param list<string> $payloadIndexes
     */
    public function __construct(
        public readonly string $name,
        public readonly string $kind,
        public readonly ?string $namespace,
        public readonly string $status,
        public readonly int $points,
        public readonly int $indexedVectors,
        public readonly int $segments,
        public readonly int $dimension,
        public readonly array $payloadIndexes,
        public readonly bool $indexingHeld = false,
        public readonly string $distance = 'cosine',
        public readonly string $engineVersion = '',
    ) {
    }
}
