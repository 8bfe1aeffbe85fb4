<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Unit;

use MemoryWorker\Exception\InvalidJob;
use MemoryWorker\Exception\NotReplicated;
use MemoryWorker\Exception\PartitionMismatch;
use MemoryWorker\Exception\PushedInPart;
use MemoryWorker\Exception\QueueFull;
use MemoryWorker\Exception\QueueUnavailable;
use MemoryWorker\Job\Purge;
use MemoryWorker\Job\Upsert;
use MemoryWorker\MemoryQueue;
use MemoryWorker\Redis\BrokenConnection;
use MemoryWorker\Tests\Support\FakeConnection;
use MemoryWorker\Tests\Support\MessagePackReader;
use MemoryWorker\Wire\LiveMeta;
use MemoryWorker\Wire\Producer;
use MemoryWorker\Wire\TimeLimit;
use PHPUnit\Framework\TestCase;

/** What a push does about Redis: limits, clock, repeats, chunks. */
final class PushTest extends TestCase
{
    private const META = ['partitions' => '32', 'dimension' => '4', 'max_job_bytes' => '2000000'];

    /** @return array<string, array{string|BrokenConnection}> */
    public static function signsOfAnotherServer(): array
    {
        $words = ['READONLY', 'MASTERDOWN', 'CLUSTERDOWN', 'MOVED', 'NOREPLICAS', 'LOADING', 'UNBLOCKED'];
        $cases = ['broken' => [new BrokenConnection('read error on connection')]];
        foreach ($words as $word) {
            $cases[$word] = ["$word because of a failover"];
        }

        return $cases;
    }

    /** @dataProvider signsOfAnotherServer */
    public function testItReconnectsOnceAndRepeatsTheSamePush(string|BrokenConnection $sign): void
    {
        $redis = new FakeConnection(self::META);
        $redis->failures = [$sign];
        $receipt = (new MemoryQueue($redis))->purge(userId: 1730);
        self::assertSame('17/1732000000000-0', (string) $receipt);
        self::assertSame(1, $redis->reconnects);
        [$first, $second] = $redis->scripts('push');
        self::assertSame($first, $second);
    }

    /**
     * @testWith ["TIME"]
     *           ["EVALSHA"]
     */
    public function testTheAnswerToAnotherCommandIsNotTaken(string $command): void
    {
        $redis = new FakeConnection(self::META);
        $redis->outOfStep = [$command];
        self::assertSame('17/1732000000000-0', (string) (new MemoryQueue($redis))->purge(userId: 1730));
        self::assertSame(1, $redis->reconnects);
    }

    public function testItGivesUpAfterTheSecondConnection(): void
    {
        $redis = new FakeConnection(self::META);
        $redis->failures = array_fill(0, 2, new BrokenConnection('gone'));
        try {
            (new MemoryQueue($redis))->purge(userId: 1730);
            self::fail('nothing was thrown');
        } catch (QueueUnavailable $error) {
            self::assertSame('Redis: gone', $error->getMessage());
        }
        self::assertCount(2, $redis->scripts('push'));
    }

    public function testAnInterruptedCommandLeavesItsConnection(): void
    {
        $redis = new FakeConnection(self::META);
        $redis->failures = [new \DomainException('thrown by a signal handler')];
        try {
            (new MemoryQueue($redis))->purge(userId: 1730);
            self::fail('nothing was thrown');
        } catch (\DomainException) {
            self::assertSame(1, $redis->reconnects);
        }
        self::assertCount(1, $redis->scripts('push'));
    }

    public function testAnotherErrorIsNotRepeated(): void
    {
        $redis = new FakeConnection(self::META);
        $redis->failures = ['QUEUEFULL jobs 5'];
        try {
            (new MemoryQueue($redis))->purge(userId: 1730);
            self::fail('nothing was thrown');
        } catch (QueueFull $error) {
            self::assertSame(['jobs', 5], [$error->what, $error->limit]);
        }
        self::assertSame(0, $redis->reconnects);
        self::assertCount(1, $redis->scripts('push'));
    }

    public function testANewNumberOfPartitionsIsReadAndThePushRepeatedWithItsToken(): void
    {
        $redis = new FakeConnection(self::META);
        $queue = new MemoryQueue($redis);
        $queue->purge(userId: 1730);
        $redis->meta['partitions'] = '7';
        $redis->failures = ['PARTITIONS 7'];
        self::assertSame(5, $queue->purge(userId: 1730)->partition);
        [, $refused, $repeated] = array_map(
            static fn (array $words): string => FakeConnection::split($words)[0][5],
            $redis->scripts('push'),
        );
        self::assertSame($refused, $repeated);
    }

    public function testAPushThatIsTooLateReadsTheClockAndIsRepeatedOnce(): void
    {
        $redis = new FakeConnection(self::META);
        $redis->failures = [null, 'TOOLATE 1', 'TOOLATE 1'];
        $queue = new MemoryQueue($redis);
        $queue->purge(userId: 1730);
        $clock = static fn (): int => count(array_keys(array_column($redis->commands, 0), 'TIME', true));
        $before = $clock();
        try {
            $queue->purge(userId: 1730);
            self::fail('nothing was thrown');
        } catch (QueueUnavailable $error) {
            self::assertSame('the push reached Redis too late and was not stored', $error->getMessage());
        }
        self::assertSame($before + 1, $clock());
    }

    public function testTwoWrongNumbersOfPartitionsAreAnError(): void
    {
        $redis = new FakeConnection(self::META);
        $redis->failures = ['PARTITIONS 7', 'PARTITIONS 9'];
        $this->expectException(PartitionMismatch::class);
        (new MemoryQueue($redis))->purge(userId: 1730);
    }

    public function testTheLimitsAreReadOnceForManyPushes(): void
    {
        $redis = new FakeConnection(self::META);
        $queue = new MemoryQueue($redis);
        $queue->purge(userId: 1);
        $queue->purge(userId: 2);
        self::assertSame(['HMGET', 'TIME', 'EVALSHA', 'EVALSHA'], array_column($redis->commands, 0));
    }

    public function testLimitsOfALongLivedProcessAreReadAgainAfterAMinute(): void
    {
        $redis = new FakeConnection(self::META);
        $queue = new MemoryQueue($redis);
        $queue->purge(userId: 1730);
        $this->setAgeOfLimits($queue, 59.0);
        $queue->purge(userId: 1730);
        self::assertCount(1, array_keys(array_column($redis->commands, 0), 'HMGET', true));
        $redis->meta['partitions'] = '7';
        $this->setAgeOfLimits($queue, 61.0);
        self::assertSame(5, $queue->purge(userId: 1730)->partition);
        self::assertCount(2, array_keys(array_column($redis->commands, 0), 'TIME', true));
    }

    public function testOldLimitsAreReadAgainBeforeAJobIsRefused(): void
    {
        $redis = new FakeConnection(self::META);
        $queue = new MemoryQueue($redis);
        $queue->purge(userId: 1730);
        $redis->meta['dimension'] = '1';
        $this->setAgeOfLimits($queue, 6.0);
        $queue->upsert(userId: 1730, pointId: 'mem_1730_1', vector: [1.0]);
        self::assertCount(2, $redis->pushed());
    }

    public function testLimitsThatAreFreshRefuseAtOnce(): void
    {
        $redis = new FakeConnection(self::META);
        try {
            (new MemoryQueue($redis))->upsert(userId: 1730, pointId: 'mem_1730_1', vector: [1.0]);
            self::fail('nothing was refused');
        } catch (InvalidJob $error) {
            self::assertSame('vector', $error->field);
        }
        self::assertSame(['HMGET', 'TIME'], array_column($redis->commands, 0));
    }

    public function testTheLatestTimeIsThatOfRedisAndNotOfThisMachine(): void
    {
        $redis = new FakeConnection(self::META);
        (new MemoryQueue($redis, timeout: 2.0))->purge(userId: 1730);
        [, $args] = FakeConnection::split($redis->scripts('push')[0]);
        self::assertEqualsWithDelta(1_732_000_002_000, (int) $args[2], 500);
        self::assertEqualsWithDelta(3000, (int) $args[3], 500);
    }

    public function testEachJobHasItsUserAndEachPartitionTheDrainJobOfItsOverflowStream(): void
    {
        $redis = new FakeConnection(self::META);
        (new MemoryQueue($redis))->pushMany([new Purge(1730), new Purge(7)]);
        self::assertSame(['1730', '7'], array_column($redis->pushed(), 3));
        [, $args] = FakeConnection::split($redis->scripts('push')[0]);
        [$partition, $id, $home, $overflow] = array_slice($args, 6, 4);
        self::assertSame(['17', 'mw:drain:17'], [$partition, $id]);
        self::assertSame([[17], [17 + 32]], [MessagePackReader::decode($home)->a, MessagePackReader::decode($overflow)->a]);
    }

    public function testTheReceiptIsThatOfTheStreamThatTheScriptHasChosen(): void
    {
        $redis = new FakeConnection(self::META);
        $redis->overflow = 32;
        $receipt = (new MemoryQueue($redis))->purge(userId: 1730);
        self::assertSame('49/1732000000000-0', (string) $receipt);
    }

    public function testItWaitsForReplicas(): void
    {
        $redis = new FakeConnection(self::META + ['min_replicas' => '2']);
        $redis->replicas = 2;
        $queue = new MemoryQueue($redis);
        $queue->purge(userId: 1730);
        self::assertSame(['WAIT', '2', '1000'], end($redis->commands));
        $redis->replicas = 1;
        $this->expectException(NotReplicated::class);
        $this->expectExceptionMessage('only 1 of 2 replicas of Redis confirmed within 1 s');
        $queue->purge(userId: 1730);
    }

    public function testManyJobsGoInChunksAndAnErrorNamesThoseThatAreStored(): void
    {
        $redis = new FakeConnection(self::META);
        $redis->failures = [null, 'QUEUEFULL jobs 256'];
        $jobs = array_map(static fn (int $user): Purge => new Purge($user), range(1, 600));
        try {
            (new MemoryQueue($redis))->pushMany($jobs);
            self::fail('nothing was thrown');
        } catch (PushedInPart $error) {
            self::assertCount(256, $error->stored);
            self::assertSame('only the first 256 of 600 jobs were stored', $error->getMessage());
            self::assertInstanceOf(QueueFull::class, $error->getPrevious());
        }
    }

    public function testAChunkHasAtMostOneMebibyte(): void
    {
        $redis = new FakeConnection(self::META);
        $points = array_map(static fn (int $n): array => [
            'user_id' => 1730,
            'point_id' => "mem_1730_$n",
            'vector' => [1, 2, 3, 4],
            'payload' => ['value' => str_repeat('x', 400_000)],
        ], range(1, 5));
        self::assertCount(5, (new MemoryQueue($redis))->upsertMany($points));
        self::assertCount(3, $redis->scripts('push'));
    }

    public function testNothingIsStoredIfOneOfManyJobsIsWrong(): void
    {
        $redis = new FakeConnection(self::META);
        $jobs = [new Purge(1), new Upsert(1, 'mem_1_1', [1, 2, 3]), new Purge(2)];
        try {
            (new MemoryQueue($redis))->pushMany($jobs);
            self::fail('nothing was refused');
        } catch (InvalidJob $error) {
            $expected = 'vector: expected 4 dimensions (16 bytes), got 3 (12 bytes) (job 1 of 3, counted from 0)';
            self::assertSame($expected, $error->getMessage());
        }
        self::assertSame([], $redis->scripts('push'));
    }

    public function testAJobThatIsTooLargeForNewLimitsIsNotRepeated(): void
    {
        $redis = new FakeConnection(self::META);
        $redis->failures = ['TOOLARGE 2000000 1048576'];
        $queue = new MemoryQueue($redis);
        try {
            $queue->purge(userId: 1730);
            self::fail('nothing was refused');
        } catch (InvalidJob $error) {
            self::assertSame('job: at most 1,048,576 bytes are allowed, got 2,000,000', $error->getMessage());
        }
        $queue->purge(userId: 1730);
        self::assertCount(2, array_keys(array_column($redis->commands, 0), 'HMGET', true));
    }

    private function setAgeOfLimits(MemoryQueue $queue, float $seconds): void
    {
        $producer = (new \ReflectionProperty($queue, 'producer'))->getValue($queue);
        self::assertInstanceOf(Producer::class, $producer);
        $meta = (new \ReflectionProperty($producer, 'meta'))->getValue($producer);
        self::assertInstanceOf(LiveMeta::class, $meta);
        (new \ReflectionProperty($meta, 'readAt'))->setValue($meta, TimeLimit::now() - $seconds);
    }
}
