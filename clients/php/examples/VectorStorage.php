<?php

declare(strict_types=1);

namespace MemoryWorker\Examples;

use MemoryWorker\Result\QueueReport;

/**
 * What an app does with vectors. The app sees only this interface, so it can choose between the queue and a client of
 * Qdrant by its configuration.
 *
 * A method throws unless its comment says that it returns a value instead of an error.
 *
 * @phpstan-type Payload array<array-key, mixed>
 * @phpstan-type Found array{id: string, score: float, payload: Payload}
 * @phpstan-type Memory array{id: string, payload: Payload}
 * @phpstan-type Document array{id: string, vector: list<float>, payload: Payload}
 * @phpstan-type File array{chunks: int, groupKey: ?string}
 */
interface VectorStorage
{
    // Memories

    /**
     * @param list<float> $vector
     * @param Payload $payload with `user_id`
     */
    public function upsertMemory(string $pointId, array $vector, array $payload, ?string $namespace = null): void;

    public function deleteMemory(string $pointId, ?string $namespace = null): void;

    /** Return how many there were, or null if that is not known. They are deleted in both cases. */
    public function deleteAllMemoriesForUser(int $userId): ?int;

    /**
     * Return the nearest active memories, best first. Return an empty list if the search fails, because a chat goes on
     * without memories.
     *
     * @param list<float> $vector
     * @return list<Found>
     */
    public function searchMemories(
        array $vector,
        int $userId,
        ?string $category = null,
        int $limit = 5,
        float $minScore = 0.7,
        ?string $namespace = null,
    ): array;

    /** @return ?Memory */
    public function getMemory(string $pointId, ?string $namespace = null): ?array;

    /** @return list<Memory> active ones */
    public function scrollMemories(
        int $userId,
        ?string $category = null,
        int $limit = 1000,
        ?string $namespace = null,
    ): array;

    // Documents

    /**
     * @param list<float> $vector
     * @param Payload $payload with `user_id`
     */
    public function upsertDocument(string $pointId, array $vector, array $payload): void;

    /**
     * Store all documents, or throw.
     *
     * @param list<Document> $documents
     */
    public function batchUpsertDocuments(array $documents): void;

    /**
     * Replace all chunks of a file by these. Without documents, the file is removed.
     *
     * @param list<Document> $documents
     */
    public function replaceFile(int $userId, int $fileId, array $documents): void;

    public function deleteDocument(string $pointId): void;

    /** Return how many chunks there were, or null if that is not known. They are deleted in both cases. */
    public function deleteDocumentsByFile(int $userId, int $fileId): ?int;

    /** Return how many chunks there were, or null if that is not known. They are deleted in both cases. */
    public function deleteDocumentsByGroupKey(int $userId, string $groupKey): ?int;

    /** Return how many chunks there were, or null if that is not known. They are deleted in both cases. */
    public function deleteAllDocumentsForUser(int $userId): ?int;

    /** Move a file to another group. Return how many chunks it has; 0 means that it was never vectorized. */
    public function updateDocumentGroupKey(int $userId, int $fileId, string $groupKey): int;

    /**
     * Return the nearest chunks, best first. Return an empty list if the search fails, because a chat goes on without
     * documents.
     *
     * @param list<float> $vector
     * @return list<Found>
     */
    public function searchDocuments(
        array $vector,
        int $userId,
        ?string $groupKey = null,
        int $limit = 10,
        float $minScore = 0.3,
    ): array;

    /**
     * Return the chunks that are nearest to a chunk, without the chunk itself.
     *
     * @return list<Found> an empty list if the chunk does not exist
     */
    public function findSimilar(int $userId, string $pointId, int $limit = 10, float $minScore = 0.3): array;

    /** @return ?Document */
    public function getDocument(string $pointId): ?array;

    /** @return array{chunks: int, files: array<array-key, int>, groups: array<array-key, int>} chunks of each file and group */
    public function getDocumentStats(int $userId): array;

    /** @return list<string> */
    public function getDocumentGroupKeys(int $userId): array;

    /** @return File no chunks if the file was never vectorized */
    public function getDocumentFileInfo(int $userId, int $fileId): array;

    /** @return list<int> */
    public function getFileIdsByGroupKey(int $userId, string $groupKey): array;

    /** @return array<int, File> by file id */
    public function getFilesWithChunksByGroupKey(int $userId, string $groupKey): array;

    /** @return array<int, File> by file id */
    public function getFilesWithChunks(int $userId): array;

    // Collections and health

    /** @return array{exists: bool, dimension: ?int, points: int, distance: ?string} */
    public function getMemoriesCollectionInfo(?string $namespace = null): array;

    /** Return whether Qdrant answers. It returns false and does not throw. */
    public function healthCheck(): bool;

    /** Return whether writes are accepted. It returns false and does not throw. */
    public function isAvailable(): bool;

    /**
     * Return both answers and the reason of a bad one. It does not throw.
     *
     * @return array{available: bool, healthy: bool, error: ?string, queue?: ?QueueReport}
     */
    public function getHealthDetails(): array;
}
