<?php

declare(strict_types=1);

namespace MemoryWorker\Result;

/** A point that a search found. ``score`` is the similarity (for cosine -1 to 1) or the distance. */
final class Hit
{
    /**
     * @param array<array-key, mixed> $payload
     */
    public function __construct(
        public readonly string $pointId,
        public readonly float $score,
        public readonly array $payload,
        public readonly ?string $namespace = null,
    ) {
    }
}
