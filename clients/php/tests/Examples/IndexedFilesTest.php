<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Examples;

use MemoryWorker\Examples\IndexedFiles;
use MemoryWorker\Exception\QueueFull;
use MemoryWorker\Job\Prune;
use MemoryWorker\JobState;
use MemoryWorker\Outcome;
use MemoryWorker\Queue;
use MemoryWorker\Receipt;
use MemoryWorker\Testing\RecordingQueue;
use PHPUnit\Framework\TestCase;

/** The state of a file by its outcomes, and by the states of its receipts after a gap. */
final class IndexedFilesTest extends TestCase
{
    private const VECTOR = [1.0];
    private const CHUNK = 1;
    private const PRUNE = 2;

    private RecordingQueue $queue;
    private \PDO $database;
    private IndexedFiles $files;
    private int $last = 0;

    protected function setUp(): void
    {
        if (!extension_loaded('pdo_sqlite')) {
            self::markTestSkipped('PHP has no pdo_sqlite');
        }
        $this->queue = new RecordingQueue();
        $this->database = new \PDO('sqlite::memory:');
        $this->files = new IndexedFiles($this->queue, $this->database);
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
        $this->follow($this->outcome('dead', self::CHUNK, 'invalid'), $this->outcome('applied', self::PRUNE));
        self::assertSame('failed', $this->files->state(88));
        self::assertSame(['invalid: why'], $this->files->problems(88));
        $this->follow($this->outcome('replayed', self::CHUNK), $this->outcome('applied', self::CHUNK));
        self::assertSame('indexed', $this->files->state(88));
    }

    public function testADroppedJobStaysAProblemUnlessAPurgeMadeItNeedless(): void
    {
        $this->index();
        $this->follow($this->outcome('dead', self::CHUNK, 'invalid'), $this->outcome('applied', self::PRUNE));
        $this->follow($this->outcome('dropped', self::CHUNK));
        self::assertSame('failed', $this->files->state(88));
        $this->follow($this->outcome('dropped', self::CHUNK, 'purged'));
        self::assertSame('indexed', $this->files->state(88));
    }

    public function testOutcomesOfAnOlderRunChangeNothing(): void
    {
        $this->index();
        $older = $this->outcome('dead', self::CHUNK, 'invalid');
        usleep(1100);  // so that the run has another version
        $this->index();
        $this->follow($older);
        self::assertSame('pending', $this->files->state(88));
    }

    public function testItContinuesBehindTheLastOutcome(): void
    {
        $this->index();
        $this->follow($this->outcome('dead', self::CHUNK, 'invalid'));
        $afterARestart = new IndexedFiles($this->queue, $this->database);
        self::assertSame(0, $afterARestart->follow(0));
        self::assertSame('failed', $afterARestart->state(88));
    }

    public function testAfterAGapItAsksForTheStates(): void
    {
        $this->index();
        $receipts = array_map(static fn (int $job): Receipt => new Receipt(0, self::id($job)), [self::CHUNK, self::PRUNE]);
        $queue = $this->createStub(Queue::class);
        $queue->method('outcomes')->willReturn([$this->outcome('applied', 9, ref: 'of somebody else', gap: true)]);
        $queue->method('states')->willReturn([
            new JobState($receipts[0], 'dead', 'invalid', 'why'),
            new JobState($receipts[1], 'applied'),
        ]);
        (new IndexedFiles($queue, $this->database))->follow(0);
        self::assertSame(['dead invalid why'], $this->files->problems(88));
    }

    public function testAPushThatIsRefusedMakesTheFileFail(): void
    {
        $error = new QueueFull('jobs', 10);
        $this->queue->willFail($error);
        try {
            $this->index();
            self::fail('no error');
        } catch (QueueFull $thrown) {
            self::assertSame($error, $thrown);
        }
        self::assertSame([$error->getMessage()], $this->files->problems(88));
    }

    private function index(): void
    {
        $this->files->index(7, 88, [['point_id' => 'doc_7_88_0', 'vector' => self::VECTOR, 'payload' => []]]);
    }

    private function follow(Outcome ...$outcomes): void
    {
        array_map($this->queue->willReport(...), $outcomes);
        self::assertSame(count($outcomes), $this->files->follow(0));
    }

    /** @param 'applied'|'dead'|'dropped'|'replayed' $outcome */
    private function outcome(string $outcome, int $job, string $reason = '', ?string $ref = null, bool $gap = false): Outcome
    {
        $prune = $this->queue->pushed(Prune::class);

        return new Outcome(
            id: ++$this->last . '-0',
            receipt: new Receipt(0, self::id($job)),
            position: self::id($job),
            outcome: $outcome,
            at: 1,
            op: $job === self::PRUNE ? 'prune' : 'upsert',
            reason: $reason,
            detail: 'why',
            ref: $ref ?? $prune[count($prune) - 1]->ref,
            gap: $gap,
        );
    }

    /** The ids that the queue gives to the jobs of the first run. */
    private static function id(int $job): string
    {
        return "1732000000000-$job";
    }
}
