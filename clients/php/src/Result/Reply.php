<?php

declare(strict_types=1);

namespace MemoryWorker\Result;

use MemoryWorker\Exception\ReadFailed;

/**
 * The answer to a read job: what its kind asks for, or an error.
 *
 * ``queueMs`` is the time from the push of the job until a worker began it, ``engineMs`` is the time in Qdrant, and
 * ``totalMs`` is the time from the push until the worker had the answer.
 *
 * Each method returns the answer to one kind of job, and throws `ReadFailed` if the read failed.
 */
final class Reply
{
    /**
     * @param list<Hit>|null $hits
     * @param list<SearchResult>|null $results
     * @param list<Point>|null $points
     * @param list<FileInfo>|null $files
     * @param list<CollectionInfo>|null $collections
     */
    public function __construct(
        public readonly ?ReadError $error = null,
        private readonly ?array $hits = null,
        private readonly ?array $results = null,
        private readonly ?array $points = null,
        private readonly ?string $cursor = null,
        private readonly ?int $count = null,
        private readonly ?FacetCounts $facet = null,
        private readonly ?array $files = null,
        public readonly bool $truncated = false,
        private readonly ?UserStats $stats = null,
        private readonly ?array $collections = null,
        private readonly ?HealthReport $health = null,
        public readonly float $engineMs = 0.0,
        public readonly float $queueMs = 0.0,
        public readonly float $totalMs = 0.0,
    ) {
    }

    /** @throws ReadFailed if the reply is an error */
    public function throwIfFailed(): void
    {
        if ($this->error !== null) {
            throw new ReadFailed($this->error->code, $this->error->message);
        }
    }

    /**
     * The answer to a `Search`.
     *
     * @return list<Hit>
     *
     * @throws ReadFailed
     */
    public function hits(): array
    {
        $this->throwIfFailed();

        return $this->hits ?? [];
    }

    /**
     * The answer to a `SearchMany`.
     *
     * @return list<SearchResult>
     *
     * @throws ReadFailed
     */
    public function results(): array
    {
        $this->throwIfFailed();

        return $this->results ?? [];
    }

    /**
     * The answer to a `Get`.
     *
     * @return list<Point>
     *
     * @throws ReadFailed
     */
    public function points(): array
    {
        $this->throwIfFailed();

        return $this->points ?? [];
    }

    /**
     * The answer to a `ListPoints`.
     *
     * @throws ReadFailed
     */
    public function page(): Page
    {
        return new Page($this->points(), $this->cursor);
    }

    /**
     * The answer to a `Count`.
     *
     * @throws ReadFailed
     */
    public function count(): int
    {
        $this->throwIfFailed();

        return $this->count ?? 0;
    }

    /**
     * The answer to a `Facet`.
     *
     * @throws ReadFailed
     */
    public function facet(): FacetCounts
    {
        $this->throwIfFailed();

        return $this->facet ?? new FacetCounts([]);
    }

    /**
     * The answer to a `Files`.
     *
     * @return list<FileInfo>
     *
     * @throws ReadFailed
     */
    public function files(): array
    {
        $this->throwIfFailed();

        return $this->files ?? [];
    }

    /**
     * The answer to a `Stats`.
     *
     * @throws ReadFailed
     */
    public function stats(): UserStats
    {
        $this->throwIfFailed();

        return $this->stats ?? new UserStats(0, [], []);
    }

    /**
     * The answer to an `Info`.
     *
     * @return list<CollectionInfo>
     *
     * @throws ReadFailed
     */
    public function collections(): array
    {
        $this->throwIfFailed();

        return $this->collections ?? [];
    }

    /**
     * The answer to a `Health`.
     *
     * @throws ReadFailed
     */
    public function health(): HealthReport
    {
        $this->throwIfFailed();

        return $this->health ?? throw new ReadFailed('internal', 'the reply has no health');
    }
}
