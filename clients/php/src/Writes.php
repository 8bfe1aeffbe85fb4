<?php

declare(strict_types=1);

namespace MemoryWorker;

use MemoryWorker\Exception\InvalidJob;
use MemoryWorker\Exception\PushedInPart;
use MemoryWorker\Exception\QueueFull;
use MemoryWorker\Exception\QueueUnavailable;
use MemoryWorker\Job\Upsert;
use MemoryWorker\Job\WriteJob;

/**
 * Push write jobs. A push returns a receipt, and the jobs of a user are applied in the order of the pushes.
 *
 * All methods have two options about the outcome of the job. ``ref`` is your own name of the job, of 1 to 128
 * characters. It is in the outcome and in the dead letter. With ``notify``, an outcome is written when the job was
 * applied. A job that can never be applied always has an outcome.
 */
interface Writes
{
    /**
     * Push a write of one point. It replaces an older point with the same id.
     *
     * ``vector`` is a list of numbers, or float32 bytes: ``pack('g*', ...$numbers)``. In ``payload``, dates and times
     * are stored as ISO 8601 text, enums as their value, and objects with ``__toString`` as text. Bytes in texts that
     * are not UTF-8 are replaced by U+FFFD. An empty array inside the payload is a list. Use ``new \stdClass()`` for an
     * empty map.
     *
     * @param string|iterable<int|float> $vector
     * @param array<array-key, mixed>|\stdClass $payload
     *
     * @throws InvalidJob names the wrong field; nothing was stored
     * @throws QueueFull if the backlog is at its limit; nothing was stored
     * @throws QueueUnavailable if Redis cannot be reached; the push is stored once or never
     */
    public function upsert(
        int|string $userId,
        string $pointId,
        string|iterable $vector,
        array|\stdClass $payload = [],
        string $kind = 'memory',
        ?string $namespace = null,
        ?string $ref = null,
        bool $notify = false,
    ): Receipt;

    /**
     * Push writes of many points. Each is an `Upsert` or a map of its fields, such as ``user_id`` and ``point_id``.
     *
     * @param iterable<Upsert|array<array-key, mixed>> $points
     * @return list<Receipt>
     *
     * @throws InvalidJob names the wrong field; nothing was stored
     * @throws PushedInPart if only the first jobs were stored
     * @throws QueueFull if the backlog is at its limit; nothing was stored
     * @throws QueueUnavailable if Redis cannot be reached
     */
    public function upsertMany(iterable $points): array;

    /**
     * Push a change of some payload fields of existing points. Their vectors stay.
     *
     * Give one target: ``pointId`` or ``pointIds`` (up to 1,000), ``category``, ``groupKey`` or ``fileId``. ``set`` has
     * new values, and ``unset`` the names of fields to remove. Points that do not exist are no error. The kind is
     * ``document`` for a ``groupKey`` or ``fileId`` if it is left out, and else ``memory``. With ids, the namespace
     * ``*`` is the base collection and every namespace.
     *
     * @param string|Absent $pointId
     * @param iterable<string>|Absent $pointIds
     * @param string|Absent $category
     * @param string|Absent $groupKey
     * @param int|Absent $fileId
     * @param array<array-key, mixed>|\stdClass $set
     * @param iterable<string> $unset
     * @param string|Absent $kind
     *
     * @throws InvalidJob names the wrong field; nothing was stored
     * @throws QueueFull if the backlog is at its limit; nothing was stored
     * @throws QueueUnavailable if Redis cannot be reached; the push is stored once or never
     */
    public function patch(
        int|string $userId,
        string|Absent|null $pointId = Absent::Field,
        iterable|Absent|null $pointIds = Absent::Field,
        string|Absent|null $category = Absent::Field,
        string|Absent|null $groupKey = Absent::Field,
        int|Absent|null $fileId = Absent::Field,
        array|\stdClass $set = [],
        iterable $unset = [],
        string|Absent|null $kind = Absent::Field,
        ?string $namespace = null,
        ?string $ref = null,
        bool $notify = false,
    ): Receipt;

    /**
     * Push a delete of one point or, with ``pointIds``, of up to 1,000 points.
     *
     * The namespace ``*`` is the base collection and every namespace.
     *
     * @param iterable<string> $pointIds
     *
     * @throws InvalidJob names the wrong field; nothing was stored
     * @throws QueueFull if the backlog is at its limit; nothing was stored
     * @throws QueueUnavailable if Redis cannot be reached; the push is stored once or never
     */
    public function delete(
        int|string $userId,
        ?string $pointId = null,
        iterable $pointIds = [],
        string $kind = 'memory',
        ?string $namespace = null,
        ?string $ref = null,
        bool $notify = false,
    ): Receipt;

    /**
     * Push a delete of all points of a user.
     *
     * ``kind``, ``namespace``, ``category``, ``groupKey`` and ``fileId`` narrow it if given. ``before`` (unix seconds)
     * narrows it to points whose ``created`` is lower, and ``otherThanModel`` to points that have another
     * ``embedding_model_id``. None of them may be null, so that a file whose id is not known yet does not delete all
     * files.
     *
     * @param string|Absent $kind
     * @param string|Absent $namespace
     * @param string|Absent $category
     * @param string|Absent $groupKey
     * @param int|Absent $fileId
     * @param int|Absent $before
     * @param int|Absent $otherThanModel
     *
     * @throws InvalidJob names the wrong field; nothing was stored
     * @throws QueueFull if the backlog is at its limit; nothing was stored
     * @throws QueueUnavailable if Redis cannot be reached; the push is stored once or never
     */
    public function purge(
        int|string $userId,
        string|Absent|null $kind = Absent::Field,
        string|Absent|null $namespace = Absent::Field,
        string|Absent|null $category = Absent::Field,
        string|Absent|null $groupKey = Absent::Field,
        int|Absent|null $fileId = Absent::Field,
        int|Absent|null $before = Absent::Field,
        int|Absent|null $otherThanModel = Absent::Field,
        ?string $ref = null,
        bool $notify = false,
    ): Receipt;

    /**
     * Push a delete of the chunks of a file whose ``_version`` is lower than ``version`` or absent.
     *
     * @throws InvalidJob names the wrong field; nothing was stored
     * @throws QueueFull if the backlog is at its limit; nothing was stored
     * @throws QueueUnavailable if Redis cannot be reached; the push is stored once or never
     */
    public function prune(
        int|string $userId,
        int $fileId,
        int $version,
        string $kind = 'document',
        ?string $namespace = null,
        ?string $ref = null,
        bool $notify = false,
    ): Receipt;

    /**
     * Push the chunks of a file, then a delete of its older chunks. Return all receipts, that of the delete last.
     *
     * Each chunk is a map with ``point_id``, ``vector`` and ``payload``, or an `Upsert`. Its payload gets ``file_id``
     * and ``version`` as ``_version``. Without chunks, the file is removed.
     *
     * ``version`` must be higher than in the run before, such as the time in milliseconds. All jobs have the ``ref``.
     * Only the delete, which is applied last, has ``notify``. The old chunks are found until then. After `PushedInPart`
     * the old chunks are still there: push all again with the same version or a higher one.
     *
     * @param iterable<Upsert|array<array-key, mixed>> $chunks
     * @return list<Receipt>
     *
     * @throws InvalidJob names the wrong field; nothing was stored
     * @throws PushedInPart if only the first jobs were stored
     * @throws QueueFull if the backlog is at its limit; nothing was stored
     * @throws QueueUnavailable if Redis cannot be reached
     */
    public function replaceFile(
        int|string $userId,
        int $fileId,
        iterable $chunks,
        int $version,
        string $kind = 'document',
        ?string $namespace = null,
        ?string $ref = null,
        bool $notify = false,
    ): array;

    /**
     * Push write jobs in order. Each round trip stores up to 256 jobs or 1 MiB, and stores all of them or none.
     *
     * @param iterable<WriteJob> $jobs
     * @return list<Receipt>
     *
     * @throws InvalidJob names the wrong field; nothing was stored
     * @throws PushedInPart if only the first jobs were stored
     * @throws QueueFull if the backlog is at its limit; nothing was stored
     * @throws QueueUnavailable if Redis cannot be reached
     */
    public function pushMany(iterable $jobs): array;
}
