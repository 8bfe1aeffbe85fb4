<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Examples;

use MemoryWorker\Examples\QueuedVectorStorage;
use MemoryWorker\Exception\InvalidJob;
use MemoryWorker\Exception\PushedInPart;
use MemoryWorker\Exception\QueueUnavailable;
use MemoryWorker\Exception\ReadFailed;
use MemoryWorker\Job\Purge;
use MemoryWorker\Queue;
use MemoryWorker\Receipt;
use MemoryWorker\Result\QueueReport;
use PHPUnit\Framework\MockObject\Stub;
use PHPUnit\Framework\TestCase;

/** Errors: which ones the adapter throws, and which ones it logs. */
final class QueuedVectorStorageTest extends TestCase
{
    /** @var Queue&Stub */
    private Queue $queue;
    private QueuedVectorStorage $storage;
    /** @var list<string> */
    private array $logged = [];

    protected function setUp(): void
    {
        $this->queue = $this->createStub(Queue::class);
        $log = function (string $what, \Throwable $error): void {
            $this->logged[] = "$what: {$error->getMessage()}";
        };
        $this->storage = new QueuedVectorStorage($this->queue, $log);
    }

    public function testAFailedSearchFindsNothingAndIsLogged(): void
    {
        $this->queue->method('search')->willThrowException(new ReadFailed('timeout', 'no answer'));
        self::assertSame([], $this->storage->searchMemories([1.0], 7));
        self::assertSame([], $this->storage->searchDocuments([1.0], 7));
        self::assertSame(
            ['search of memories: timeout: no answer', 'search of documents: timeout: no answer'],
            $this->logged,
        );
    }

    public function testAWrongSearchIsThrown(): void
    {
        $this->queue->method('search')->willThrowException(new InvalidJob('vector', 'is empty'));
        $this->expectException(InvalidJob::class);
        $this->storage->searchMemories([], 7);
    }

    /** @dataProvider otherReads */
    public function testOtherFailedReadsAreThrown(string $method, string $adapted, int|string ...$arguments): void
    {
        $this->queue->method($method)->willThrowException(new ReadFailed('unavailable', 'Qdrant is away'));
        $this->expectException(ReadFailed::class);
        $this->storage->$adapted(...$arguments);
    }

    /** @return iterable<array{string, string, 2: int|string, 3?: int|string}> */
    public static function otherReads(): iterable
    {
        yield ['get', 'getMemory', 'mem_7_1'];
        yield ['list', 'scrollMemories', 7];
        yield ['search', 'findSimilar', 7, 'doc_7_1_0'];
        yield ['get', 'getDocument', 'doc_7_1_0'];
        yield ['stats', 'getDocumentStats', 7];
        yield ['facet', 'getDocumentGroupKeys', 7];
        yield ['files', 'getFilesWithChunks', 7];
        yield ['files', 'getDocumentFileInfo', 7, 88];
    }

    public function testAPurgeIsQueuedIfTheCountFails(): void
    {
        $pushed = [];
        $this->queue->method('count')->willThrowException(new ReadFailed('unavailable', 'Qdrant is away'));
        $this->queue->method('pushMany')->willReturnCallback(function (array $jobs) use (&$pushed): array {
            array_push($pushed, ...$jobs);

            return [new Receipt(0, '1-0')];
        });
        self::assertNull($this->storage->deleteDocumentsByFile(7, 88));
        self::assertNull($this->storage->deleteAllMemoriesForUser(7));
        self::assertEquals([new Purge(7, fileId: 88), new Purge(7, kind: 'memory')], $pushed);
        self::assertCount(2, $this->logged);
    }

    public function testRefusedWritesAreThrown(): void
    {
        $error = new PushedInPart([new Receipt(0, '1-0')], 2);
        $this->queue->method('pushMany')->willThrowException($error);
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
        $report instanceof QueueUnavailable
            ? $this->queue->method('status')->willThrowException($report)
            : $this->queue->method('status')->willReturn($report);
        self::assertSame($available, $this->storage->isAvailable());
        self::assertSame($error === null, $this->storage->healthCheck());
        self::assertSame($error, $this->storage->getHealthDetails()['error']);
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
}
