<?php

declare(strict_types=1);

namespace MemoryWorker\Examples;

use MemoryWorker\Absent;
use MemoryWorker\Exception\QueueError;
use MemoryWorker\Exception\ReadFailed;
use MemoryWorker\Job\Purge;
use MemoryWorker\Job\Upsert;
use MemoryWorker\Queue;
use MemoryWorker\Result\Hit;

/**
 * The vectors of an app behind the queue.
 *
 * Compared with a client that talks to Qdrant, these things change:
 *
 * - A write returns once it is queued, also while Qdrant is away. Reads find it a moment later. Read what was just
 *   created from your database.
 * - After a write that throws, keep the change in your database and push it again later. To repeat it does no harm.
 * - Each user sees only their own points, because the user is part of the id of a point.
 * - Collections are created by the worker.
 */
final class QueuedVectorStorage implements VectorStorage
{
    private const MOST_HITS = 200;
    private const PAGE = 1000;
    private const COUNT_TIMEOUT_S = 1.0;

    /**
     * @param \Closure(string, \Throwable): void $log gets each error that a method does not throw
     * @param ?int $embeddingModel searches find only points of this model, and those that name none
     * @param list<string> $hidden categories that a search without a category and a namespace leaves out
     */
    public function __construct(
        private readonly Queue $queue,
        private readonly \Closure $log,
        private readonly ?int $embeddingModel = null,
        private readonly array $hidden = [],
    ) {
    }

    // Memories

    public function upsertMemory(string $pointId, array $vector, array $payload, ?string $namespace = null): void
    {
        $this->queue->upsert(
            userId: Rows::owner($pointId),
            pointId: $pointId,
            vector: $vector,
            payload: $payload,
            namespace: $namespace,
        );
    }

    /** Without a namespace, the memory is deleted in all of them, so the caller need not know where it is. */
    public function deleteMemory(string $pointId, ?string $namespace = null): void
    {
        $this->queue->delete(userId: Rows::owner($pointId), pointId: $pointId, namespace: $namespace ?? '*');
    }

    /** This reaches every namespace, and not the base collection only. */
    public function deleteAllMemoriesForUser(int $userId): ?int
    {
        return $this->purge(new Purge($userId, kind: 'memory'));
    }

    /** The model and the hidden categories are left out before the limit, so ask only for what you need. */
    public function searchMemories(
        array $vector,
        int $userId,
        ?string $category = null,
        int $limit = 5,
        float $minScore = 0.7,
        ?string $namespace = null,
    ): array {
        return $this->orNothing('search of memories', fn (): array => $this->queue->search(
            userId: $userId,
            vector: $vector,
            kind: 'memory',
            namespace: $namespace,
            limit: min($limit, self::MOST_HITS),
            minScore: $minScore,
            category: $category ?? Absent::Field,
            notCategory: $category === null && $namespace === null ? $this->hidden : [],
            where: $this->ofTheModel(),
        ));
    }

    public function getMemory(string $pointId, ?string $namespace = null): ?array
    {
        $points = $this->queue->get(userId: Rows::owner($pointId), pointIds: [$pointId], namespace: $namespace);

        return $points === [] ? null : Rows::memory($points[0]);
    }

    public function scrollMemories(
        int $userId,
        ?string $category = null,
        int $limit = 1000,
        ?string $namespace = null,
    ): array {
        $found = [];
        $cursor = null;
        while (($left = $limit - count($found)) > 0) {
            $page = $this->queue->list(
                userId: $userId,
                kind: 'memory',
                namespace: $namespace,
                limit: min($left, self::PAGE),
                cursor: $cursor,
                category: $category ?? Absent::Field,
            );
            array_push($found, ...array_map(Rows::memory(...), $page->points));
            if (($cursor = $page->cursor) === null) {
                break;
            }
        }

        return $found;
    }

    // Documents

    public function upsertDocument(string $pointId, array $vector, array $payload): void
    {
        $this->batchUpsertDocuments([['id' => $pointId, 'vector' => $vector, 'payload' => $payload]]);
    }

    /** After an error, push all documents again. Those that were stored already are replaced by themselves. */
    public function batchUpsertDocuments(array $documents): void
    {
        $this->queue->pushMany(array_map(static fn (array $document): Upsert => new Upsert(
            userId: Rows::owner($document['id']),
            pointId: $document['id'],
            vector: $document['vector'],
            payload: $document['payload'],
            kind: 'document',
        ), $documents));
    }

    /** The old chunks are found until the new ones are there. Let one process at a time replace a file. */
    public function replaceFile(int $userId, int $fileId, array $documents): void
    {
        $chunks = array_map(static fn (array $document): array => [
            'point_id' => $document['id'],
            'vector' => $document['vector'],
            'payload' => $document['payload'],
        ], $documents);
        $version = (int) (microtime(true) * 1000);
        $this->queue->replaceFile(userId: $userId, fileId: $fileId, chunks: $chunks, version: $version);
    }

    public function deleteDocument(string $pointId): void
    {
        $this->queue->delete(userId: Rows::owner($pointId), pointId: $pointId, kind: 'document');
    }

    public function deleteDocumentsByFile(int $userId, int $fileId): ?int
    {
        return $this->purge(new Purge($userId, fileId: $fileId));
    }

    public function deleteDocumentsByGroupKey(int $userId, string $groupKey): ?int
    {
        return $this->purge(new Purge($userId, groupKey: $groupKey));
    }

    /** A queued purge does not roll back with a transaction of your database. Call this after the commit. */
    public function deleteAllDocumentsForUser(int $userId): ?int
    {
        return $this->purge(new Purge($userId, kind: 'document'));
    }

    /**
     * The count waits for the move, so that it has the chunks that are still queued, too. If it throws `NotApplied` or
     * `ReadFailed`, the move is queued nevertheless.
     */
    public function updateDocumentGroupKey(int $userId, int $fileId, string $groupKey): int
    {
        $moved = $this->queue->patch(userId: $userId, fileId: $fileId, set: ['group_key' => $groupKey]);

        return $this->queue->count(userId: $userId, fileId: $fileId, after: $moved);
    }

    public function searchDocuments(
        array $vector,
        int $userId,
        ?string $groupKey = null,
        int $limit = 10,
        float $minScore = 0.3,
    ): array {
        return $this->orNothing('search of documents', fn (): array => $this->queue->search(
            userId: $userId,
            vector: $vector,
            kind: 'document',
            limit: min($limit, self::MOST_HITS),
            minScore: $minScore,
            groupKey: $groupKey ?? Absent::Field,
            where: $this->ofTheModel(),
        ));
    }

    /** One request instead of two. Only the user's own chunks are found. */
    public function findSimilar(int $userId, string $pointId, int $limit = 10, float $minScore = 0.3): array
    {
        return array_map(Rows::found(...), $this->queue->search(
            userId: $userId,
            like: $pointId,
            kind: 'document',
            limit: min($limit, self::MOST_HITS),
            minScore: $minScore,
            where: $this->ofTheModel(),
        ));
    }

    public function getDocument(string $pointId): ?array
    {
        $owner = Rows::owner($pointId);
        $points = $this->queue->get(userId: $owner, pointIds: [$pointId], kind: 'document', vectors: true);

        return $points === [] ? null : Rows::document($points[0]);
    }

    /** The index counts, so that no chunk is read. A user with more than 10,000 files gets the largest ones. */
    public function getDocumentStats(int $userId): array
    {
        return Rows::stats($this->queue->stats(userId: $userId, kind: 'document'));
    }

    public function getDocumentGroupKeys(int $userId): array
    {
        $groups = $this->queue->facet(userId: $userId, by: 'group_key', kind: 'document');

        return array_map('strval', array_column($groups->values, 'value'));
    }

    public function getDocumentFileInfo(int $userId, int $fileId): array
    {
        $files = Rows::byId($this->queue->files(userId: $userId, fileId: $fileId));

        return $files[$fileId] ?? ['chunks' => 0, 'groupKey' => null];
    }

    public function getFileIdsByGroupKey(int $userId, string $groupKey): array
    {
        return array_keys($this->getFilesWithChunksByGroupKey($userId, $groupKey));
    }

    public function getFilesWithChunksByGroupKey(int $userId, string $groupKey): array
    {
        return Rows::byId($this->queue->files(userId: $userId, groupKey: $groupKey));
    }

    /** A failed read throws. An empty list would look as if no file had chunks. */
    public function getFilesWithChunks(int $userId): array
    {
        return Rows::byId($this->queue->files(userId: $userId));
    }

    // Collections and health

    /** This asks Qdrant. It is for a page of the operator, and not for each write. */
    public function getMemoriesCollectionInfo(?string $namespace = null): array
    {
        foreach ($this->queue->info() as $found) {
            if ($found->kind === 'memory' && $found->namespace === $namespace) {
                return Rows::collection($found);
            }
        }

        return Rows::collection(null);
    }

    /** Do not let writes depend on this. They are queued while Qdrant is away. */
    public function healthCheck(): bool
    {
        return $this->getHealthDetails()['healthy'];
    }

    /** One command of Redis, without a worker. Call it as often as you like. */
    public function isAvailable(): bool
    {
        return $this->getHealthDetails()['available'];
    }

    public function getHealthDetails(): array
    {
        try {
            $report = $this->queue->status();
        } catch (QueueError $error) {
            ($this->log)('health', $error);

            return ['available' => false, 'healthy' => false, 'error' => $error->getMessage()];
        }
        $error = $report === null ? 'no worker has reported for some seconds' : $report->storeError;

        return ['available' => true, 'healthy' => $error === null, 'error' => $error, 'queue' => $report];
    }

    /** Queue the purge. Return what it reaches, as far as that has been applied before. */
    private function purge(Purge $purge): ?int
    {
        $memories = $purge->kind === 'memory';
        try {
            $found = $this->queue->count(
                userId: $purge->userId,
                kind: $purge->kind,
                namespace: $memories ? '*' : null,
                active: $memories ? 'any' : Absent::Field,
                groupKey: $purge->groupKey,
                fileId: $purge->fileId,
                timeout: self::COUNT_TIMEOUT_S,
            );
        } catch (QueueError | ReadFailed $error) {
            ($this->log)('count before a purge', $error);
            $found = null;
        }
        $this->queue->pushMany([$purge]);

        return $found;
    }

    /**
     * @param \Closure(): list<Hit> $search
     * @return list<array{id: string, score: float, payload: array<array-key, mixed>}>
     */
    private function orNothing(string $what, \Closure $search): array
    {
        try {
            return array_map(Rows::found(...), $search());
        } catch (QueueError | ReadFailed $error) {
            ($this->log)($what, $error);

            return [];
        }
    }

    /** @return array<string, array{is: int, or_absent: true}> */
    private function ofTheModel(): array
    {
        return $this->embeddingModel === null
            ? []
            : ['embedding_model_id' => ['is' => $this->embeddingModel, 'or_absent' => true]];
    }
}
