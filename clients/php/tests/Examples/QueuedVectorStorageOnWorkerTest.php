<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Examples;

use MemoryWorker\Examples\QueuedVectorStorage;
use MemoryWorker\Examples\VectorStorage;
use MemoryWorker\Testing\SynchronousQueue;
use PHPUnit\Framework\TestCase;

/** Each method of the adapter does on a real worker what the app expects. */
final class QueuedVectorStorageOnWorkerTest extends TestCase
{
    use RealWorker;

    private const MODEL = 42;
    private const OLD_MODEL = 41;

    private VectorStorage $storage;

    protected function setUp(): void
    {
        $this->connect();
        $log = static fn (string $what, \Throwable $error) => throw $error;
        $this->storage = new QueuedVectorStorage(new SynchronousQueue($this->queue), $log, self::MODEL, ['hidden']);
    }

    public function testMemories(): void
    {
        $this->remember(1, ['value' => 'tea']);
        $this->remember(2, ['value' => 'coffee', 'category' => 'work']);
        $this->remember(3, ['value' => 'secret', 'category' => 'hidden']);
        $this->remember(4, ['value' => 'stale', 'embedding_model_id' => self::OLD_MODEL]);
        $this->remember(5, ['value' => 'inactive', 'active' => false]);
        $this->remember(6, ['value' => 'good', 'category' => 'hidden'], 'feedback_positive');

        self::assertSame(['tea', 'coffee'], $this->found(null));
        self::assertSame(['secret'], $this->found('hidden'));
        self::assertSame(['good'], $this->found(null, 'feedback_positive'));
        self::assertSame('tea', $this->storage->getMemory($this->memory(1))['payload']['value'] ?? null);
        self::assertNull($this->storage->getMemory($this->memory(9)));
        self::assertCount(4, $this->storage->scrollMemories($this->user));
        self::assertCount(2, $this->storage->scrollMemories($this->user, limit: 2));
        self::assertCount(1, $this->storage->scrollMemories($this->user, 'work'));
    }

    public function testDeletesOfMemoriesReachEveryNamespace(): void
    {
        foreach ([null, 'feedback_positive'] as $namespace) {
            $this->remember(1, [], $namespace);
            $this->remember(2, [], $namespace);
        }
        $this->storage->deleteMemory($this->memory(1));
        self::assertNull($this->storage->getMemory($this->memory(1), 'feedback_positive'));
        self::assertSame(2, $this->storage->deleteAllMemoriesForUser($this->user));
        self::assertNull($this->storage->getMemory($this->memory(2), 'feedback_positive'));
    }

    public function testSearchesOfDocuments(): void
    {
        $this->storage->batchUpsertDocuments([$this->document(1, 0, 'WORK'), $this->document(1, 1, 'WORK', axis: 1)]);
        $this->storage->upsertDocument(...array_values($this->document(2, 0, 'HOME')));
        $ids = fn (array $found): array => array_column($found, 'id');

        $first = $this->chunk(1, 0);
        self::assertEqualsCanonicalizing([$first, $this->chunk(2, 0)], $ids($this->search()));
        self::assertSame([$first], $ids($this->search('WORK')));
        self::assertSame([$this->chunk(2, 0)], $ids($this->storage->findSimilar($this->user, $first)));
        self::assertSame([], $this->storage->findSimilar($this->user, $this->chunk(9, 0)));
        self::assertSame($this->axis(1), $this->storage->getDocument($this->chunk(1, 1))['vector'] ?? null);
        self::assertNull($this->storage->getDocument($this->chunk(9, 0)));
    }

    public function testFilesAndGroups(): void
    {
        $user = $this->user;
        $this->storage->batchUpsertDocuments([
            $this->document(1, 0, 'WORK'), $this->document(1, 1, 'WORK'), $this->document(2, 0, 'HOME'),
        ]);
        $files = [1 => ['chunks' => 2, 'groupKey' => 'WORK'], 2 => ['chunks' => 1, 'groupKey' => 'HOME']];

        self::assertEquals(
            ['chunks' => 3, 'files' => [1 => 2, 2 => 1], 'groups' => ['WORK' => 2, 'HOME' => 1]],
            $this->storage->getDocumentStats($user),
        );
        self::assertSame(['WORK', 'HOME'], $this->storage->getDocumentGroupKeys($user));
        self::assertSame($files, $this->storage->getFilesWithChunks($user));
        self::assertSame($files[1], $this->storage->getDocumentFileInfo($user, 1));
        self::assertSame(['chunks' => 0, 'groupKey' => null], $this->storage->getDocumentFileInfo($user, 3));
        self::assertSame([2], $this->storage->getFileIdsByGroupKey($user, 'HOME'));
        self::assertSame([2 => $files[2]], $this->storage->getFilesWithChunksByGroupKey($user, 'HOME'));

        self::assertSame(2, $this->storage->updateDocumentGroupKey($user, 1, 'HOME'));
        self::assertSame([1, 2], $this->storage->getFileIdsByGroupKey($user, 'HOME'));
        self::assertSame(0, $this->storage->updateDocumentGroupKey($user, 3, 'HOME'), 'it was never vectorized');
    }

    public function testReplacesAndDeletesOfDocuments(): void
    {
        $user = $this->user;
        foreach ([1, 2, 3] as $file) {
            $this->storage->replaceFile($user, $file, array_map(fn (int $n) => $this->document($file, $n, 'WORK'), range(0, 3)));
        }
        $this->storage->replaceFile($user, 1, [$this->document(1, 0, 'HOME'), $this->document(1, 2, 'HOME')]);
        self::assertSame(2, $this->storage->getDocumentFileInfo($user, 1)['chunks']);
        $this->storage->deleteDocument($this->chunk(1, 2));
        self::assertSame(1, $this->storage->deleteDocumentsByGroupKey($user, 'HOME'));
        self::assertSame(4, $this->storage->deleteDocumentsByFile($user, 2));
        self::assertSame([3], array_keys($this->storage->getFilesWithChunks($user)));
        self::assertSame(4, $this->storage->deleteAllDocumentsForUser($user));
        self::assertSame([], $this->storage->getFilesWithChunks($user));
    }

    public function testCollectionsAndHealth(): void
    {
        $this->remember(1);
        $found = $this->storage->getMemoriesCollectionInfo();
        self::assertSame([true, count($this->axis(0)), 'cosine'], [$found['exists'], $found['dimension'], $found['distance']]);
        self::assertFalse($this->storage->getMemoriesCollectionInfo('unknown')['exists']);
        self::assertTrue($this->storage->isAvailable());
        self::eventually(fn (): bool => $this->storage->healthCheck());
    }

    /** @param array<string, mixed> $payload */
    private function remember(int $number, array $payload = [], ?string $namespace = null): void
    {
        $payload += ['user_id' => $this->user, 'category' => 'personal', 'created' => $number];
        $this->storage->upsertMemory($this->memory($number), $this->axis(0), $payload, $namespace);
    }

    /** @return list<mixed> */
    private function found(?string $category, ?string $namespace = null): array
    {
        $found = $this->storage->searchMemories($this->axis(0), $this->user, $category, 10, 0.5, $namespace);
        usort($found, static fn (array $one, array $other): int => $one['payload']['created'] <=> $other['payload']['created']);

        return array_column(array_column($found, 'payload'), 'value');
    }

    /** @return list<array{id: string, score: float, payload: array<array-key, mixed>}> */
    private function search(?string $group = null): array
    {
        return $this->storage->searchDocuments($this->axis(0), $this->user, $group);
    }

    /** @return array{id: string, vector: list<float>, payload: array<string, mixed>} */
    private function document(int $file, int $number, string $group, int $axis = 0): array
    {
        $payload = ['user_id' => $this->user, 'file_id' => $file, 'chunk_index' => $number, 'group_key' => $group];

        return ['id' => $this->chunk($file, $number), 'vector' => $this->axis($axis), 'payload' => $payload];
    }

    private function memory(int $number): string
    {
        return "mem_{$this->user}_$number";
    }

    private function chunk(int $file, int $number): string
    {
        return "doc_{$this->user}_{$file}_$number";
    }
}
