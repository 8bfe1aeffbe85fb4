<?php

declare(strict_types=1);

namespace MemoryWorker\Result;

/** The result of one of several searches: its hits, or its error. */
final class SearchResult
{
    /**
     * @param list<Hit>|null $hits
     */
    public function __construct(
        public readonly ?array $hits = null,
        public readonly ?ReadError $error = null,
    ) {
    }
}
