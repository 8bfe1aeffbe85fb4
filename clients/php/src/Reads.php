<?php

declare(strict_types=1);

namespace MemoryWorker;

use MemoryWorker\Exception\InvalidJob;
use MemoryWorker\Exception\NotApplied;
use MemoryWorker\Exception\QueueFull;
use MemoryWorker\Exception\QueueUnavailable;
use MemoryWorker\Exception\ReadFailed;
use MemoryWorker\Job\FieldCondition;
use MemoryWorker\Job\ReadJob;
use MemoryWorker\Job\Search;
use MemoryWorker\Result\CollectionInfo;
use MemoryWorker\Result\FacetCounts;
use MemoryWorker\Result\FileInfo;
use MemoryWorker\Result\HealthReport;
use MemoryWorker\Result\Hit;
use MemoryWorker\Result\Page;
use MemoryWorker\Result\Point;
use MemoryWorker\Result\Reply;
use MemoryWorker\Result\SearchResult;
use MemoryWorker\Result\UserStats;

/**
 * Read points, count them, and describe collections. An error is thrown, and never an empty result.
 *
 * ``timeout`` is in seconds, at most 60. With ``after``, a read first waits until the job of that receipt has been
 * applied, within the same time. ``category``, ``groupKey`` and ``fileId`` narrow a read if given, and must not be
 * null. Without ``kind``, a read with ``groupKey`` or ``fileId`` is about documents, and any other about memories.
 *
 * @phpstan-import-type ScalarValue from FieldCondition
 */
interface Reads
{
    /**
     * Return the user's points nearest to ``vector``, best first. An empty list means that there are none.
     *
     * With ``like`` instead of ``vector``, return the points nearest to that point, without the point itself. ``limit``
     * is 1 to 200. The defaults of ``limit`` and ``minScore`` are 5 and 0.7 for memories, 10 and 0.3 for documents. If
     * scores are distances (euclid, manhattan), ``minScore`` is the largest distance. ``namespaces`` are searched at
     * the same time, and null in them is the base collection. ``where`` maps fields to values or conditions, all of
     * which must hold. ``fields`` are the payload fields to return, by default all.
     *
     * @param string|iterable<int|float>|Absent $vector
     * @param string|Absent $like
     * @param string|Absent $kind
     * @param iterable<string|null>|Absent $namespaces
     * @param string|Absent $category
     * @param string|Absent $groupKey
     * @param int|Absent $fileId
     * @param iterable<string> $notCategory
     * @param iterable<string> $exclude
     * @param array<array-key, ScalarValue|FieldCondition|array<array-key, mixed>> $where
     * @param iterable<string>|null $fields
     * @return list<Hit>
     *
     * @throws InvalidJob names the wrong field
     * @throws ReadFailed if there is no answer within ``timeout`` seconds, or it is an error
     * @throws NotApplied if the job of ``after`` was not applied in time
     * @throws QueueFull if too many reads wait
     * @throws QueueUnavailable if Redis cannot be reached
     */
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
    ): array;

    /**
     * Run up to 16 searches at once. Return the hits or the error of each, in their order.
     *
     * Each is a `Search` or a map of its fields, such as ``user_id`` and ``vector``, without ``after`` and
     * ``timeout_ms``.
     *
     * @param iterable<Search|array<array-key, mixed>> $searches
     * @return list<SearchResult>
     *
     * @throws InvalidJob names the wrong field
     * @throws ReadFailed if there is no answer within ``timeout`` seconds, or it is an error
     * @throws NotApplied if the job of ``after`` was not applied in time
     * @throws QueueFull if too many reads wait
     * @throws QueueUnavailable if Redis cannot be reached
     */
    public function searchMany(iterable $searches, ?Receipt $after = null, int|float $timeout = 5.0): array;

    /**
     * Return the points with these ids that exist, in this order. With ``vectors``, at most 250 ids are allowed.
     *
     * @param iterable<string> $pointIds
     * @param iterable<string>|null $fields
     * @return list<Point>
     *
     * @throws InvalidJob names the wrong field
     * @throws ReadFailed if there is no answer within ``timeout`` seconds, or it is an error
     * @throws NotApplied if the job of ``after`` was not applied in time
     * @throws QueueFull if too many reads wait
     * @throws QueueUnavailable if Redis cannot be reached
     */
    public function get(
        int|string $userId,
        iterable $pointIds,
        string $kind = 'memory',
        ?string $namespace = null,
        bool $vectors = false,
        ?iterable $fields = null,
        ?Receipt $after = null,
        int|float $timeout = 5.0,
    ): array;

    /**
     * Return a page of the user's points, in the order of their ids or newest first.
     *
     * Pass the ``cursor`` of a page to get the next one. It is null for the last page. A page has up to ``limit``
     * points (1 to 1,000) and ends early if they have more than 1 MiB. By default, points that are not active are left
     * out.
     *
     * @param string|Absent $kind
     * @param 'id'|'created'|'updated' $order
     * @param bool|'any'|Absent $active
     * @param string|Absent $category
     * @param string|Absent $groupKey
     * @param int|Absent $fileId
     * @param array<array-key, ScalarValue|FieldCondition|array<array-key, mixed>> $where
     * @param iterable<string>|null $fields
     *
     * @throws InvalidJob names the wrong field
     * @throws ReadFailed if there is no answer within ``timeout`` seconds, or it is an error
     * @throws NotApplied if the job of ``after`` was not applied in time
     * @throws QueueFull if too many reads wait
     * @throws QueueUnavailable if Redis cannot be reached
     */
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
    ): Page;

    /**
     * Return the exact number of the user's points. The namespace ``*`` is the base collection and every namespace.
     *
     * @param string|Absent $kind
     * @param bool|'any'|Absent $active
     * @param string|Absent $category
     * @param string|Absent $groupKey
     * @param int|Absent $fileId
     * @param array<array-key, ScalarValue|FieldCondition|array<array-key, mixed>> $where
     *
     * @throws InvalidJob names the wrong field
     * @throws ReadFailed if there is no answer within ``timeout`` seconds, or it is an error
     * @throws NotApplied if the job of ``after`` was not applied in time
     * @throws QueueFull if too many reads wait
     * @throws QueueUnavailable if Redis cannot be reached
     */
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
    ): int;

    /**
     * Return how many of the user's points have each value of the indexed field ``by``, the most frequent value first.
     *
     * ``limit`` is 1 to 10,000. The namespace ``*`` is the base collection and every namespace.
     *
     * @param string|Absent $kind
     * @param bool|'any'|Absent $active
     * @param string|Absent $category
     * @param string|Absent $groupKey
     * @param int|Absent $fileId
     * @param array<array-key, ScalarValue|FieldCondition|array<array-key, mixed>> $where
     *
     * @throws InvalidJob names the wrong field
     * @throws ReadFailed if there is no answer within ``timeout`` seconds, or it is an error
     * @throws NotApplied if the job of ``after`` was not applied in time
     * @throws QueueFull if too many reads wait
     * @throws QueueUnavailable if Redis cannot be reached
     */
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
    ): FacetCounts;

    /**
     * Return the user's files, with the number of chunks and the group of each. The files with the most chunks come
     * first.
     *
     * If there are more than ``limit`` (1 to 10,000), the others are left out.
     *
     * @param string|Absent $groupKey
     * @param int|Absent $fileId
     * @param array<array-key, ScalarValue|FieldCondition|array<array-key, mixed>> $where
     * @return list<FileInfo>
     *
     * @throws InvalidJob names the wrong field
     * @throws ReadFailed if there is no answer within ``timeout`` seconds, or it is an error
     * @throws NotApplied if the job of ``after`` was not applied in time
     * @throws QueueFull if too many reads wait
     * @throws QueueUnavailable if Redis cannot be reached
     */
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
    ): array;

    /**
     * Return how many points the user has, and how many by category, group, file and embedding model.
     *
     * @param string|Absent $kind
     * @param bool|'any'|Absent $active
     * @param string|Absent $category
     * @param string|Absent $groupKey
     * @param int|Absent $fileId
     * @param array<array-key, ScalarValue|FieldCondition|array<array-key, mixed>> $where
     *
     * @throws InvalidJob names the wrong field
     * @throws ReadFailed if there is no answer within ``timeout`` seconds, or it is an error
     * @throws NotApplied if the job of ``after`` was not applied in time
     * @throws QueueFull if too many reads wait
     * @throws QueueUnavailable if Redis cannot be reached
     */
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
    ): UserStats;

    /**
     * Send all read jobs, then collect their replies. Return the replies under the keys of the jobs.
     *
     * The reads run at the same time. Each has its own answer or its own error: a method such as
     * ``$replies['a']->hits()`` returns the answer or throws `ReadFailed`. If a job is wrong, nothing is sent.
     *
     * @template TKey of array-key
     * @param array<TKey, ReadJob> $jobs
     * @return array<TKey, Reply>
     *
     * @throws InvalidJob names the wrong field
     * @throws NotApplied if the job of an ``after`` was not applied in time
     * @throws QueueFull if too many reads wait
     * @throws QueueUnavailable if Redis cannot be reached
     */
    public function callMany(array $jobs): array;

    /**
     * Return the state of the collections in Qdrant.
     *
     * @return list<CollectionInfo>
     *
     * @throws InvalidJob names the wrong field
     * @throws ReadFailed if there is no answer within ``timeout`` seconds, or it is an error
     * @throws QueueFull if too many reads wait
     * @throws QueueUnavailable if Redis cannot be reached
     */
    public function info(int|float $timeout = 5.0): array;

    /**
     * Return the answer of a worker that has asked Qdrant just now.
     *
     * @throws InvalidJob names the wrong field
     * @throws ReadFailed if there is no answer within ``timeout`` seconds, or it is an error
     * @throws QueueFull if too many reads wait
     * @throws QueueUnavailable if Redis cannot be reached
     */
    public function health(int|float $timeout = 0.5): HealthReport;
}
