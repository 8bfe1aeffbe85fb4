<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Examples;

use MemoryWorker\Examples\IndexedFiles;
use MemoryWorker\Exception\QueueFull;
use MemoryWorker\JobState;
use MemoryWorker\Outcome;
use MemoryWorker\Queue;
use MemoryWorker\Receipt;
use PHPUnit\Framework\MockObject\Stub;
use PHPUnit\Framework\TestCase;

/** The state of a file by its outcomes, and by the states of its receipts after a gap. */
final class IndexedFilesTest extends TestCase
{
    private const CHUNKS = 1;
    private const PRUNE = 2;

    /** @var Queue&Stub */
    private Queue $queue;
    private IndexedFiles $files;
    private ?string $run = null;
    /** @var list<list<Outcome>> */
    private array $batches = [];
    /** @var list<?string> */
    private array $asked = [];

    protected function setUp(): void
    {
        if (!extension_loaded('pdo_sqlite')) {
            self::markTestSkipped('PHP has no pdo_sqlite');
        }
        $this->queue = $this->createStub(Queue::class);
        $this->queue->method('outcomes')->willReturnCallback(function (?string $after): array {
            $this->asked[] = $after;

            return array_shift($this->batches) ?? [];
        });
        $this->files = new IndexedFiles($this->queue, new \PDO('sqlite::memory:'));
    }

    public function testAFileIsIndexedOnceItsLastJobIsApplied(): void
    {
        $this->index();
        self::assertSame('pending', $this->files->state(88));
        $this->follow($this->outcome('applied', self::PRUNE));
        self::assertSame('indexed', $this->files->state(88));
        self::assertNull($this->files->state(89));
    }

    public function testAFileWithADeadJobFailsUntilItsReplayIsApplied(): void
    {
        $this->index();
        $this->follow($this->outcome('dead', self::CHUNKS, 'invalid'), $this->outcome('applied', self::PRUNE));
        self::assertSame('failed', $this->files->state(88));
        self::assertSame(['invalid: why'], $this->files->problems(88));
        $this->follow($this->outcome('replayed', self::CHUNKS), $this->outcome('applied', self::CHUNKS));
        self::assertSame('indexed', $this->files->state(88));
    }

    public function testADroppedJobStaysAProblemUnlessAPurgeMadeItNeedless(): void
    {
        $this->index();
        $this->follow($this->outcome('dead', self::CHUNKS, 'invalid'), $this->outcome('applied', self::PRUNE));
        $this->follow($this->outcome('dropped', self::CHUNKS));
        self::assertSame('failed', $this->files->state(88));
        $this->follow($this->outcome('dropped', self::CHUNKS, 'purged'));
        self::assertSame('indexed', $this->files->state(88));
    }

    public function testOutcomesOfAnOlderRunChangeNothing(): void
    {
        $this->index();
        $older = $this->outcome('dead', self::CHUNKS, 'invalid');
        usleep(1100);  // so that the run has another version
        $this->index();
        $this->follow($older);
        self::assertSame('pending', $this->files->state(88));
    }

    public function testItContinuesBehindTheLastOutcome(): void
    {
        $this->index();
        $this->follow($this->outcome('applied', self::PRUNE));
        self::assertSame(0, $this->files->follow(0));
        self::assertSame([null, '2-0'], $this->asked);
    }

    public function testAfterAGapItAsksForTheStates(): void
    {
        $this->index();
        $this->queue->method('states')->willReturn([
            new JobState(new Receipt(0, self::CHUNKS . '-0'), 'dead', 'invalid', 'why'),
            new JobState(new Receipt(0, self::PRUNE . '-0'), 'applied'),
        ]);
        $this->follow($this->outcome('applied', 9, ref: 'of somebody else', gap: true));
        self::assertSame(['dead invalid why'], $this->files->problems(88));
    }

    public function testAPushThatIsRefusedMakesTheFileFail(): void
    {
        $error = new QueueFull('jobs', 10);
        $this->queue->method('replaceFile')->willThrowException($error);
        try {
            $this->files->index(7, 88, []);
            self::fail('no error');
        } catch (QueueFull $thrown) {
            self::assertSame($error, $thrown);
        }
        self::assertSame([$error->getMessage()], $this->files->problems(88));
    }

    private function index(): void
    {
        $this->queue->method('replaceFile')->willReturnCallback(function (mixed ...$arguments): array {
            self::assertIsString($arguments[6]);
            $this->run = $arguments[6];  // ref

            return [new Receipt(0, self::CHUNKS . '-0'), new Receipt(0, self::PRUNE . '-0')];
        });
        $this->files->index(7, 88, [['point_id' => 'doc_7_88_0', 'vector' => [1.0], 'payload' => []]]);
    }

    private function follow(Outcome ...$outcomes): void
    {
        $this->batches[] = array_values($outcomes);
        self::assertSame(count($outcomes), $this->files->follow(0));
    }

    /** @param 'applied'|'dead'|'dropped'|'replayed' $outcome */
    private function outcome(string $outcome, int $job, string $reason = '', ?string $ref = null, bool $gap = false): Outcome
    {
        return new Outcome(
            id: "$job-0",
            receipt: new Receipt(0, "$job-0"),
            position: "$job-0",
            outcome: $outcome,
            at: 1,
            op: $job === self::PRUNE ? 'prune' : 'upsert',
            reason: $reason,
            detail: 'why',
            ref: $ref ?? $this->run,
            gap: $gap,
        );
    }
}
