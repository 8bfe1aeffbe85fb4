<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Unit;

use MemoryWorker\Exception\InvalidJob;
use MemoryWorker\Exception\QueueError;
use MemoryWorker\Exception\QueueFull;
use MemoryWorker\Exception\ReadFailed;
use MemoryWorker\Job\Count;
use MemoryWorker\Job\Purge;
use MemoryWorker\Job\Search;
use MemoryWorker\MemoryQueue;
use MemoryWorker\Redis\BrokenConnection;
use MemoryWorker\Tests\Support\FakeConnection;
use MemoryWorker\Tests\Support\MessagePackReader;
use MemoryWorker\Tests\Support\SlowConnection;
use PHPUnit\Framework\TestCase;

/** Several reads at once, and what a read does about Redis. */
final class ReadTest extends TestCase
{
    private const META = ['partitions' => '32', 'dimension' => '4'];

    public function testAllReadsAreSentBeforeTheFirstReplyIsAwaited(): void
    {
        $redis = new FakeConnection(self::META);
        $redis->reply = '{"ok":true,"count":3}';
        $replies = (new MemoryQueue($redis))->callMany(['a' => new Count(1730), 'b' => new Count(1731)]);
        self::assertSame(['a' => 3, 'b' => 3], array_map(static fn ($reply): int => $reply->count(), $replies));
        self::assertSame(['HMGET', 'TIME', 'EVALSHA', 'EVALSHA', 'BLPOP', 'BLPOP'], array_column($redis->commands, 0));
    }

    public function testEachReadHasItsOwnError(): void
    {
        $redis = new FakeConnection(self::META);
        $redis->reply = '{"ok":false,"error":{"code":"unavailable","message":"Qdrant is away"}}';
        $replies = (new MemoryQueue($redis))->callMany([new Count(1730)]);
        self::assertSame('unavailable', $replies[0]->error?->code);
        $this->expectException(ReadFailed::class);
        $this->expectExceptionMessage('unavailable: Qdrant is away');
        $replies[0]->count();
    }

    public function testAReadWithLittleTimeDoesNotFailTheOthers(): void
    {
        $redis = new FakeConnection(self::META);
        $redis->reply = '{"ok":true,"count":3}';
        $slow = new SlowConnection($redis, 0.005);
        $replies = (new MemoryQueue($slow))->callMany([new Count(1730, timeout: 0.002), new Count(1731)]);
        self::assertSame(3, $replies[1]->count());
        $record = MessagePackReader::decode($redis->called()[0]);
        self::assertInstanceOf(\stdClass::class, $record);
        self::assertSame(1, $record->a[0]->timeout_ms);
    }

    public function testOnlyReadsCanBeCalled(): void
    {
        $this->expectException(InvalidJob::class);
        $this->expectExceptionMessage('jobs[a]: expected a read job such as Search, got MemoryWorker\Job\Purge');
        (new MemoryQueue(new FakeConnection(self::META)))->callMany(['a' => new Purge(1730)]); // @phpstan-ignore-line
    }

    public function testTheReplyToAnotherReadIsNotTaken(): void
    {
        $redis = new FakeConnection(self::META);
        $redis->outOfStep = ['BLPOP'];
        $redis->reply = '{"ok":true,"count":3}';
        self::assertSame(3, (new MemoryQueue($redis))->count(userId: 1730));
        self::assertSame(1, $redis->reconnects);
    }

    public function testNothingIsSentIfOneReadIsWrong(): void
    {
        $redis = new FakeConnection(self::META);
        try {
            (new MemoryQueue($redis))->callMany([new Count(1730), new Search(1730, vector: [1])]);
            self::fail('nothing was refused');
        } catch (InvalidJob $error) {
            self::assertSame('vector', $error->field);
            self::assertStringEndsWith('(job 1 of 2, counted from 0)', $error->getMessage());
        }
        self::assertSame([], $redis->scripts('call'));
    }

    public function testReadsThatWereSentAreTakenBackAfterAnError(): void
    {
        $redis = new FakeConnection(self::META);
        $redis->failures = [null, 'QUEUEFULL reads 1'];
        try {
            (new MemoryQueue($redis))->callMany([new Count(1730), new Count(1731)]);
            self::fail('nothing was thrown');
        } catch (QueueFull $error) {
            self::assertSame('reads', $error->what);
        }
        self::assertCount(1, $redis->scripts('cancel'));
        [, $called] = FakeConnection::split($redis->scripts('call')[0]);
        [, $cancelled] = FakeConnection::split($redis->scripts('cancel')[0]);
        $item = "1732000000000.000 $called[0] $called[1]";
        self::assertSame([$called[0], $item, $called[2]], $cancelled);
    }

    public function testAllReadsAreTakenBackInTheTimeOfOne(): void
    {
        $redis = new FakeConnection(self::META);
        $redis->failures = [null, null, null, null, 'QUEUEFULL reads 1'];
        try {
            (new MemoryQueue(new SlowConnection($redis, 0.1)))->callMany(array_fill(0, 5, new Count(1730)));
            self::fail('nothing was thrown');
        } catch (QueueFull) {
            self::assertLessThan(4, count($redis->scripts('cancel')));
        }
    }

    public function testSeveralSearchesMayBeJobs(): void
    {
        $redis = new FakeConnection(self::META);
        $redis->reply = '{"ok":true,"results":[{"hits":[]},{"error":{"code":"unavailable","message":"away"}}]}';
        $like = ['user_id' => 1730, 'like' => 'doc_1730_88_0', 'kind' => 'document'];
        $searches = [new Search(1730, [1, 2, 3, 4]), $like];
        $results = (new MemoryQueue($redis))->searchMany($searches);
        self::assertSame([], $results[0]->hits);
        self::assertSame('unavailable', $results[1]->error?->code);
        $record = MessagePackReader::decode($redis->called()[0]);
        self::assertInstanceOf(\stdClass::class, $record);
        $packed = bin2hex(pack('g*', 1, 2, 3, 4));
        self::assertEquals(
            [
                (object) ['op' => 'search', 'user_id' => 1730, 'vector' => (object) ['bytes' => $packed]],
                (object) ['op' => 'search', 'kind' => 'document', 'user_id' => 1730, 'like' => 'doc_1730_88_0'],
            ],
            $record->a[0]->searches,
        );
    }

    public function testAReadIsRepeatedOverANewConnection(): void
    {
        $redis = new FakeConnection(self::META);
        $redis->failures = [new BrokenConnection('gone')];
        $redis->reply = '{"ok":true,"count":3}';
        self::assertSame(3, (new MemoryQueue($redis))->count(userId: 1730));
        self::assertSame(1, $redis->reconnects);
    }

    public function testAReplyOfAnotherFormIsAnError(): void
    {
        $redis = new FakeConnection(self::META);
        foreach (['{', '[]x', '{"hits":[{"point_id":5}]}', '5'] as $reply) {
            $redis->reply = $reply;
            try {
                (new MemoryQueue($redis))->search(userId: 1730, vector: [1, 2, 3, 4]);
                self::fail('nothing was thrown');
            } catch (QueueError $error) {
                self::assertStringStartsWith('the reply cannot be read: ', $error->getMessage());
            }
        }
    }
}
