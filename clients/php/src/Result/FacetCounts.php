<?php

declare(strict_types=1);

namespace MemoryWorker\Result;

/** The values of a field, the most frequent first. If ``truncated``, there are more values. */
final class FacetCounts
{
    /**
     * @param list<FacetValue> $values
     */
    public function __construct(
        public readonly array $values,
        public readonly bool $truncated = false,
    ) {
    }
}
