<?php

declare(strict_types=1);

namespace MemoryWorker\Result;

/**
 * A point that was read. ``vector`` is float32 little-endian bytes, normalized by Qdrant for cosine.
 *
 * ``unpack('g*', $point->vector)`` has its numbers.
 */
final class Point
{
    /**
     * @param array<array-key, mixed> $payload
     */
    public function __construct(
        public readonly string $pointId,
        public readonly array $payload,
        public readonly ?string $namespace = null,
        public readonly ?string $vector = null,
    ) {
    }
}
