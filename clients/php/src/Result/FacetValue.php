<?php

declare(strict_types=1);

namespace MemoryWorker\Result;

/** A value of a field, and how many points have it. */
final class FacetValue
{
    public function __construct(
        public readonly string|int|bool $value,
        public readonly int $count,
    ) {
    }
}
