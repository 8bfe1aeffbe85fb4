<?php

declare(strict_types=1);

namespace MemoryWorker\Result;

/** A page of points. ``cursor`` is that of the next page; null: this is the last one. */
final class Page
{
    /**
     * @param list<Point> $points
     */
    public function __construct(
        public readonly array $points,
        public readonly ?string $cursor,
    ) {
    }
}
