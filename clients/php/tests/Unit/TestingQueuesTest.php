<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Unit;

use MemoryWorker\Exception\DeadLettered;
use MemoryWorker\Exception\InvalidJob;
use MemoryWorker\Exception\NotApplied;
use MemoryWorker\Exception\QueueFull;
use MemoryWorker\Exception\UnknownReceipt;
use MemoryWorker\Job\Delete;
use MemoryWorker\Job\Purge;
use MemoryWorker\Job\Search;
use MemoryWorker\Job\Upsert;
use MemoryWorker\MemoryQueue;
use MemoryWorker\Receipt;
use MemoryWorker\Result\Hit;
use MemoryWorker\Result\ReadError;
use MemoryWorker\Result\Reply;
use MemoryWorker\Testing\RecordingQueue;
use MemoryWorker\Testing\SynchronousQueue;
use MemoryWorker\Tests\Support\FakeConnection;
use PHPUnit\Framework\AssertionFailedError;
use PHPUnit\Framework\TestCase;

/** The queues for the tests of an app. */
final class TestingQueuesTest extends TestCase
{
    public function testItRecordsWhatWasPushed(): void
    {
        $queue = new RecordingQueue(dimension: 2);
        $queue->assertNothingPushed();
        $receipt = $queue->upsert(userId: 1730, pointId: 'mem_1730_1', vector: [1, 2], payload: ['value' => 'tea']);
        $queue->upsertMany([['user_id' => 1730, 'point_id' => 'mem_1730_2', 'vector' => [1, 2]]]);
        $queue->delete(userId: 1730, pointId: 'mem_1730_1');
        $queue->assertPushedCount(3);
        $queue->assertPushed(Upsert::class, times: 2);
        $queue->assertPushed(Upsert::class, static fn (Upsert $job): bool => $job->pointId === 'mem_1730_2', 1);
        $queue->assertPushed(Delete::class);
        $queue->assertNotPushed(Purge::class);
        self::assertSame('mem_1730_1', $queue->pushed(Upsert::class)[0]->pointId);
        $queue->waitApplied($receipt);
        self::assertSame('applied', $queue->states([$receipt])[0]->state);
        $this->expectException(UnknownReceipt::class);
        $queue->waitApplied(new Receipt(1, '1-0'));
    }

    public function testItsAssertionsFail(): void
    {
        $queue = new RecordingQueue();
        $this->expectException(AssertionFailedError::class);
        $this->expectExceptionMessage('expected at least one of the jobs MemoryWorker\Job\Purge, but 0 were pushed');
        $queue->assertPushed(Purge::class);
    }

    public function testItChecksJobsAsTheRealQueueDoes(): void
    {
        $queue = new RecordingQueue(dimension: 2);
        try {
            $queue->upsert(userId: 1730, pointId: 'mem_1730_1', vector: [1]);
            self::fail('nothing was refused');
        } catch (InvalidJob $error) {
            self::assertSame('vector: expected 2 dimensions (8 bytes), got 1 (4 bytes)', $error->getMessage());
        }
        foreach (['pushMany', 'callMany'] as $method) {
            try {
                $queue->$method(['text']);
                self::fail('nothing was refused');
            } catch (InvalidJob $error) {
                self::assertSame('jobs[0]', $error->field);
            }
        }
        $queue->assertNothingPushed();
        $this->expectException(InvalidJob::class);
        $queue->search(userId: 1730);
    }

    public function testItAnswersReadsAndFailsAsItIsTold(): void
    {
        $queue = new RecordingQueue();
        $queue->willAnswer(Search::class, new Reply(hits: [new Hit('mem_1730_1', 0.9, [])]));
        $queue->willAnswer(Search::class, new Reply(new ReadError('unavailable', 'away')));
        self::assertSame('mem_1730_1', $queue->search(userId: 1730, vector: [1])[0]->pointId);
        self::assertSame('unavailable', $queue->callMany([new Search(1730, [1])])[0]->error?->code);
        self::assertSame([], $queue->search(userId: 1730, vector: [1]));
        self::assertSame(0, $queue->count(userId: 1730));
        self::assertCount(4, $queue->called());
        $queue->willFail(new QueueFull('jobs', 5));
        try {
            $queue->purge(userId: 1730);
            self::fail('nothing was thrown');
        } catch (QueueFull) {
            $queue->assertNothingPushed();
        }
    }

    public function testTheSynchronousQueueWaitsForItsJobs(): void
    {
        $redis = new FakeConnection();
        $queue = new SynchronousQueue(new MemoryQueue($redis), 1);
        $queue->purge(userId: 1730);
        self::assertSame(['HMGET', 'TIME', 'EVALSHA', 'EVALSHA', 'EVALSHA'], array_column($redis->commands, 0));
        $redis->states = ['1', [['', '']], [['dead', 'invalid', 'why', '']]];
        try {
            $queue->purge(userId: 1730);
            self::fail('nothing was thrown');
        } catch (DeadLettered $error) {
            self::assertSame(['invalid', 'why'], [$error->reason, $error->detail]);
        }
        $redis->states = ['1', [['', '']], [[]]];
        $this->expectException(NotApplied::class);
        (new SynchronousQueue(new MemoryQueue($redis), 0.02))->purge(userId: 1730);
    }
}
