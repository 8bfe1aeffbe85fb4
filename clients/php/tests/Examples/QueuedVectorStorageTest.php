<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Examples;

use MemoryWorker\Examples\QueuedVectorStorage;
use MemoryWorker\Exception\InvalidJob;
use MemoryWorker\Exception\PushedInPart;
use MemoryWorker\Exception\QueueUnavailable;
use MemoryWorker\Exception\ReadFailed;
use MemoryWorker\Job\Count;
use MemoryWorker\Job\Facet;
use MemoryWorker\Job\Files;
use MemoryWorker\Job\Get;
use MemoryWorker\Job\ListPoints;
use MemoryWorker\Job\Purge;
use MemoryWorker\Job\ReadJob;
use MemoryWorker\Job\Search;
use MemoryWorker\Job\Stats;
use MemoryWorker\Queue;
use MemoryWorker\Receipt;
use MemoryWorker\Result\QueueReport;
use MemoryWorker\Result\ReadError;
use MemoryWorker\Result\Reply;
use MemoryWorker\Testing\RecordingQueue;
use PHPUnit\Framework\TestCase;

/** Errors: which ones the adapter throws, and which ones it logs. */
final class QueuedVectorStorageTest extends TestCase
{
    private RecordingQueue $queue;
    private QueuedVectorStorage $storage;
    /** @var list<string> */
    private array $logged = [];

    protected function setUp(): void
    {
        $this->queue = new RecordingQueue(dimension: 1);
        $this->storage = $this->storage($this->queue);
    }

    public function testAFailedSearchFindsNothingAndIsLogged(): void
    {
        $this->queue->willAnswer(Search::class, self::failure());
        $this->queue->willAnswer(Search::class, self::failure());
        self::assertSame([], $this->storage->searchMemories([1.0], 7));
        self::assertSame([], $this->storage->searchDocuments([1.0], 7));
        self::assertSame(
            ['search of memories: unavailable: Qdrant is away', 'search of documents: unavailable: Qdrant is away'],
            $this->logged,
        );
    }

    public function testAWrongSearchIsThrown(): void
    {
        $this->expectException(InvalidJob::class);
        $this->storage->searchMemories([], 7);
    }

    /**
     * @dataProvider otherReads
     * @param class-string<ReadJob> $job
     */
    public function testOtherFailedReadsAreThrown(string $job, string $method, int|string ...$arguments): void
    {
        $this->queue->willAnswer($job, self::failure());
        $this->expectException(ReadFailed::class);
        $this->storage->$method(...$arguments);
    }

    /** @return iterable<array{class-string<ReadJob>, string, 2: int|string, 3?: int|string}> */
    public static function otherReads(): iterable
    {
        yield [Get::class, 'getMemory', 'mem_7_1'];
        yield [ListPoints::class, 'scrollMemories', 7];
        yield [Search::class, 'findSimilar', 7, 'doc_7_1_0'];
        yield [Get::class, 'getDocument', 'doc_7_1_0'];
        yield [Stats::class, 'getDocumentStats', 7];
        yield [Facet::class, 'getDocumentGroupKeys', 7];
        yield [Files::class, 'getFilesWithChunks', 7];
        yield [Files::class, 'getDocumentFileInfo', 7, 88];
    }

    public function testAPurgeIsQueuedIfTheCountFails(): void
    {
        $this->queue->willAnswer(Count::class, self::failure());
        $this->queue->willAnswer(Count::class, self::failure());
        self::assertNull($this->storage->deleteDocumentsByFile(7, 88));
        self::assertNull($this->storage->deleteAllMemoriesForUser(7));
        self::assertEquals([new Purge(7, fileId: 88), new Purge(7, kind: 'memory')], $this->queue->pushed());
        self::assertCount(2, $this->logged);
    }

    public function testRefusedWritesAreThrown(): void
    {
        $error = new PushedInPart([new Receipt(0, '1-0')], 2);
        $this->queue->willFail($error);
        $document = ['id' => 'doc_7_1_0', 'vector' => [1.0], 'payload' => []];
        $this->expectExceptionObject($error);
        $this->storage->batchUpsertDocuments([$document, $document]);
    }

    public function testThePointIdMustNameItsUser(): void
    {
        $this->expectExceptionMessage('point_id: expected mem_USER_ or doc_USER_, got note 1');
        $this->storage->getMemory('note 1');
    }

    /** @dataProvider reports */
    public function testHealth(QueueReport|QueueUnavailable|null $report, bool $available, ?string $error): void
    {
        $queue = $this->createStub(Queue::class);
        $report instanceof QueueUnavailable
            ? $queue->method('status')->willThrowException($report)
            : $queue->method('status')->willReturn($report);
        $storage = $this->storage($queue);
        self::assertSame($available, $storage->isAvailable());
        self::assertSame($error === null, $storage->healthCheck());
        self::assertSame($error, $storage->getHealthDetails()['error']);
    }

    /** @return iterable<string, array{QueueReport|QueueUnavailable|null, bool, ?string}> */
    public static function reports(): iterable
    {
        $well = new QueueReport(at: 1.0, waiting: 3, waitingBytes: 99, oldestAgeS: 0.5, dead: 0, readsWaiting: 0);
        $away = new QueueReport(1.0, 3, 99, 60.0, 0, 0, storeError: 'Qdrant does not answer');
        yield 'all is well' => [$well, true, null];
        yield 'Qdrant is away' => [$away, true, 'Qdrant does not answer'];
        yield 'no worker' => [null, true, 'no worker has reported for some seconds'];
        yield 'no Redis' => [new QueueUnavailable('connection refused'), false, 'connection refused'];
    }

    private function storage(Queue $queue): QueuedVectorStorage
    {
        return new QueuedVectorStorage($queue, function (string $what, \Throwable $error): void {
            $this->logged[] = "$what: {$error->getMessage()}";
        });
    }

    private static function failure(): Reply
    {
        return new Reply(new ReadError('unavailable', 'Qdrant is away'));
    }
}
