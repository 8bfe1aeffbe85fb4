<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Integration;

use MemoryWorker\Exception\MemoryWorkerError;
use MemoryWorker\Exception\NotApplied;
use MemoryWorker\Exception\NotReplicated;
use MemoryWorker\Exception\QueueFull;
use MemoryWorker\Exception\ReadFailed;
use MemoryWorker\Job\Count;
use MemoryWorker\Job\Purge;
use MemoryWorker\Receipt;
use MemoryWorker\Result\Reply;
use MemoryWorker\Tests\Support\Golden;
use MemoryWorker\Tests\Support\Plain;
use MemoryWorker\Tests\Support\Servers;

/** The library on a real Redis, with each Redis library that is installed. */
final class RedisTest extends OnRedis
{
    /** @dataProvider libraries */
    public function testAPushIsInItsStreamAndItsReceiptWaits(string $library): void
    {
        Servers::run($library, ['SCRIPT', 'FLUSH']);
        $queue = $this->queue($library);
        $payload = ['value' => "\u{1F600}"];
        $receipt = $queue->upsert(userId: 1730, pointId: 'mem_1730_1', vector: [3, 4], payload: $payload);
        self::assertSame(17, $receipt->partition);
        $entries = $this->redis($library, ['XRANGE', 'stream:17', '-', '+']);
        self::assertSame($receipt->entryId, $entries[0][0]);
        self::assertSame(['v', '1', 'j'], array_slice($entries[0][1], 0, 3));
        self::assertStringContainsString("\u{1F600}", $entries[0][1][3]);
        self::assertSame('waiting', $queue->states([$receipt])[0]->state);
    }

    /** @dataProvider libraries */
    public function testManyReadsAreAnsweredUnderTheirKeys(string $library): void
    {
        $this->startWorker(0);
        $replies = $this->queue($library)->callMany(['a' => new Count(1), 'b' => new Count(2), 'c' => new Count(3)]);
        $counts = array_map(static fn (Reply $reply): int => $reply->count(), $replies);
        self::assertSame(['a' => 1, 'b' => 2, 'c' => 3], $counts);
    }

    /** @dataProvider libraries */
    public function testAReadWithoutAWorkerEnds(string $library): void
    {
        $this->expectException(ReadFailed::class);
        $this->expectExceptionMessage('timeout: no worker answered within 50 ms');
        $this->queue($library)->health(timeout: 0.05);
    }

    /** @dataProvider libraries */
    public function testManyReadsWithoutAWorkerEndTogether(string $library): void
    {
        $began = hrtime(true);
        $replies = $this->queue($library)->callMany(array_fill(0, 16, new Count(1730, timeout: 0.1)));
        self::assertLessThan(1.0e9, hrtime(true) - $began);
        self::assertSame(array_fill(0, 16, 'timeout'), array_map(static fn ($reply) => $reply->error?->code, $replies));
    }

    /** @dataProvider libraries */
    public function testAReadAfterAReceiptWaitsForItsJob(string $library): void
    {
        $queue = $this->queue($library);
        $receipt = $queue->purge(userId: 1730);
        try {
            $queue->count(userId: 1730, after: $receipt, timeout: 0.05);
            self::fail('it was not applied');
        } catch (NotApplied) {
            self::assertSame(0, Servers::run($library, ['ZCARD', "$this->prefix:search"]));
        }
        $this->startWorker(0);
        $this->redis($library, ['XADD', 'applied:17', $receipt->entryId, 'n', '1']);
        self::assertSame(1730, $queue->count(userId: 1730, after: $receipt));
    }

    /** @dataProvider libraries */
    public function testAUserWhoPushesMuchAtOnceGetsTheOverflowStream(string $library): void
    {
        $this->redis($library, ['HSET', 'meta', 'partitions', '32', 'user_burst', '2']);
        $this->redis($library, ['HSET', 'since', 'epoch', '1']);
        $queue = $this->queue($library);
        $receipts = $queue->pushMany(array_fill(0, 6, new Purge(1730)));
        self::assertSame([17, 17, 17, 17, 49, 49], array_column($receipts, 'partition'));
        self::assertSame(49, $queue->purge(userId: 1730)->partition);
        $entries = $this->redis($library, ['XRANGE', 'stream:49', '-', '+']);
        self::assertSame($receipts[5]->entryId, $entries[1][0]);
        self::assertSame('waiting', $queue->states([$receipts[5]])[0]->state);
        $this->redis($library, ['XADD', 'applied:49', $receipts[5]->entryId, 'n', '1']);
        $queue->waitApplied($receipts[5], 0.1);
    }

    /** @dataProvider libraries */
    public function testANewNumberOfPartitionsIsFollowed(string $library): void
    {
        $queue = $this->queue($library);
        self::assertSame(17, $queue->purge(userId: 1730)->partition);
        $this->redis($library, ['HSET', 'meta', 'partitions', '7']);
        self::assertSame(5, $queue->purge(userId: 1730)->partition);
    }

    /** @dataProvider libraries */
    public function testLimitsOfTheQueue(string $library): void
    {
        $queue = $this->queue($library);
        $this->redis($library, ['HSET', 'meta', 'partitions', '32', 'max_jobs', '1', 'min_replicas', '1']);
        try {
            $queue->purge(userId: 1730);
            self::fail('no replica has it');
        } catch (NotReplicated $error) {
            self::assertSame('only 0 of 1 replicas of Redis confirmed within 1 s', $error->getMessage());
        }
        $this->expectException(QueueFull::class);
        $queue->purge(userId: 1730);
    }

    /** @dataProvider libraries */
    public function testOutcomesAreReadBehindTheLastOne(string $library): void
    {
        $queue = $this->queue($library);
        foreach (array_slice(Golden::read('outcomes'), 0, 3) as $case) {
            self::assertInstanceOf(\stdClass::class, $case);
            $fields = [];
            foreach ((array) $case->fields as $name => $value) {
                array_push($fields, (string) $name, $value);
            }
            $this->redis($library, ['XADD', 'outcomes', $case->id, ...$fields]);
        }
        $first = $queue->outcomes(count: 1);
        self::assertSame(['1-0'], array_column($first, 'id'));
        $others = $queue->outcomes(after: '1-0', timeout: 1);
        self::assertSame(['2-0', '3-0'], array_column($others, 'id'));
        self::assertFalse($others[0]->gap);
        $this->redis($library, ['XDEL', 'outcomes', '1-0']);
        self::assertSame([true, false], array_column($queue->outcomes(after: '1-0'), 'gap'));
    }

    /** @dataProvider libraries */
    public function testStatesOfTheGoldenFiles(string $library): void
    {
        foreach (Golden::read('states') as $case) {
            self::assertInstanceOf(\stdClass::class, $case);
            $this->prefix = 't' . bin2hex(random_bytes(6));
            foreach ($case->redis as $words) {
                $this->redis($library, [$words[0], substr($words[1], strlen('mw:')), ...array_slice($words, 2)]);
            }
            $queue = $this->queue($library);
            $receipt = Receipt::parse($case->receipt);
            $states = $queue->states([$receipt]);
            self::assertSame(Plain::json([$case->state]), Plain::json(Plain::of($states)), $case->name);
            $message = null;
            try {
                $queue->waitApplied($receipt, $case->wait_applied->timeout);
            } catch (MemoryWorkerError $error) {
                $message = $error->getMessage();
            }
            self::assertSame($case->wait_applied->error->message ?? null, $message, $case->name);
            foreach (['since', 'paused', 'applied:5', 'dead:5', 'removed:5'] as $key) {
                $this->redis($library, ['DEL', $key]);
            }
        }
    }
}
