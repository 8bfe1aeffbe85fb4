<?php

declare(strict_types=1);

namespace MemoryWorker;

use MemoryWorker\Job\Count;
use MemoryWorker\Job\Facet;
use MemoryWorker\Job\Files;
use MemoryWorker\Job\Get;
use MemoryWorker\Job\Health;
use MemoryWorker\Job\Info;
use MemoryWorker\Job\ListPoints;
use MemoryWorker\Job\ReadJob;
use MemoryWorker\Job\Search;
use MemoryWorker\Job\SearchMany;
use MemoryWorker\Job\Stats;
use MemoryWorker\Result\FacetCounts;
use MemoryWorker\Result\HealthReport;
use MemoryWorker\Result\Page;
use MemoryWorker\Result\Reply;
use MemoryWorker\Result\UserStats;

/** @internal The methods that read, by calls of read jobs. */
trait ReadsByCalling
{
    public function search(
        int|string $userId,
        string|iterable|Absent|null $vector = Absent::Field,
        string|Absent|null $like = Absent::Field,
        string|Absent|null $kind = Absent::Field,
        ?string $namespace = null,
        iterable|Absent|null $namespaces = Absent::Field,
        ?int $limit = null,
        ?float $minScore = null,
        string|Absent|null $category = Absent::Field,
        string|Absent|null $groupKey = Absent::Field,
        int|Absent|null $fileId = Absent::Field,
        iterable $notCategory = [],
        iterable $exclude = [],
        array $where = [],
        ?iterable $fields = null,
        ?Receipt $after = null,
        int|float $timeout = 5.0,
    ): array {
        return $this->read(new Search(
            $userId,
            $vector,
            $like,
            $kind,
            $namespace,
            $namespaces,
            $limit,
            $minScore,
            $category,
            $groupKey,
            $fileId,
            $notCategory,
            $exclude,
            $where,
            $fields,
            $after,
            $timeout,
        ))->hits();
    }

    public function searchMany(iterable $searches, ?Receipt $after = null, int|float $timeout = 5.0): array
    {
        return $this->read(new SearchMany($searches, $after, $timeout))->results();
    }

    public function get(
        int|string $userId,
        iterable $pointIds,
        string $kind = 'memory',
        ?string $namespace = null,
        bool $vectors = false,
        ?iterable $fields = null,
        ?Receipt $after = null,
        int|float $timeout = 5.0,
    ): array {
        return $this->read(new Get(
            $userId,
            $pointIds,
            $kind,
            $namespace,
            $vectors,
            $fields,
            $after,
            $timeout,
        ))->points();
    }

    public function list(
        int|string $userId,
        string|Absent|null $kind = Absent::Field,
        ?string $namespace = null,
        string $order = 'id',
        int $limit = 100,
        ?string $cursor = null,
        bool|string|Absent|null $active = Absent::Field,
        string|Absent|null $category = Absent::Field,
        string|Absent|null $groupKey = Absent::Field,
        int|Absent|null $fileId = Absent::Field,
        array $where = [],
        ?iterable $fields = null,
        ?Receipt $after = null,
        int|float $timeout = 5.0,
    ): Page {
        return $this->read(new ListPoints(
            $userId,
            $kind,
            $namespace,
            $order,
            $limit,
            $cursor,
            $active,
            $category,
            $groupKey,
            $fileId,
            $where,
            $fields,
            $after,
            $timeout,
        ))->page();
    }

    public function count(
        int|string $userId,
        string|Absent|null $kind = Absent::Field,
        ?string $namespace = null,
        bool|string|Absent|null $active = Absent::Field,
        string|Absent|null $category = Absent::Field,
        string|Absent|null $groupKey = Absent::Field,
        int|Absent|null $fileId = Absent::Field,
        array $where = [],
        ?Receipt $after = null,
        int|float $timeout = 5.0,
    ): int {
        return $this->read(new Count(
            $userId,
            $kind,
            $namespace,
            $active,
            $category,
            $groupKey,
            $fileId,
            $where,
            $after,
            $timeout,
        ))->count();
    }

    public function facet(
        int|string $userId,
        string $by,
        int $limit = 1000,
        string|Absent|null $kind = Absent::Field,
        ?string $namespace = null,
        bool|string|Absent|null $active = Absent::Field,
        string|Absent|null $category = Absent::Field,
        string|Absent|null $groupKey = Absent::Field,
        int|Absent|null $fileId = Absent::Field,
        array $where = [],
        ?Receipt $after = null,
        int|float $timeout = 5.0,
    ): FacetCounts {
        return $this->read(new Facet(
            $userId,
            $by,
            $limit,
            $kind,
            $namespace,
            $active,
            $category,
            $groupKey,
            $fileId,
            $where,
            $after,
            $timeout,
        ))->facet();
    }

    public function files(
        int|string $userId,
        int $limit = 10_000,
        string $kind = 'document',
        ?string $namespace = null,
        string|Absent|null $groupKey = Absent::Field,
        int|Absent|null $fileId = Absent::Field,
        array $where = [],
        ?Receipt $after = null,
        int|float $timeout = 5.0,
    ): array {
        return $this->read(new Files(
            $userId,
            $limit,
            $kind,
            $namespace,
            $groupKey,
            $fileId,
            $where,
            $after,
            $timeout,
        ))->files();
    }

    public function stats(
        int|string $userId,
        string|Absent|null $kind = Absent::Field,
        ?string $namespace = null,
        bool|string|Absent|null $active = Absent::Field,
        string|Absent|null $category = Absent::Field,
        string|Absent|null $groupKey = Absent::Field,
        int|Absent|null $fileId = Absent::Field,
        array $where = [],
        ?Receipt $after = null,
        int|float $timeout = 5.0,
    ): UserStats {
        return $this->read(new Stats(
            $userId,
            $kind,
            $namespace,
            $active,
            $category,
            $groupKey,
            $fileId,
            $where,
            $after,
            $timeout,
        ))->stats();
    }

    public function info(int|float $timeout = 5.0): array
    {
        return $this->read(new Info($timeout))->collections();
    }

    public function health(int|float $timeout = 0.5): HealthReport
    {
        return $this->read(new Health($timeout))->health();
    }

    private function read(ReadJob $job): Reply
    {
        return $this->callMany([$job])[0];
    }
}
