<?php

declare(strict_types=1);

namespace MemoryWorker\Result;

/**
 * The points of a user: how many there are, and how many by the values of each field.
 *
 * ``by`` has a list for each narrowing field of the kind and for ``embedding_model_id``. ``absent`` has the number of
 * points without the field. If ``truncated``, a list has not all values.
 */
final class UserStats
{
    /**
     * @param array<string, list<FacetValue>> $by
     * @param array<string, int> $absent
     */
    public function __construct(
        public readonly int $points,
        public readonly array $by,
        public readonly array $absent,
        public readonly bool $truncated = false,
    ) {
    }
}
