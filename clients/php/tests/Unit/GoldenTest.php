<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Unit;

use MemoryWorker\Contract\Fields;
use MemoryWorker\Contract\Partition;
use MemoryWorker\Contract\PrimaryId;
use MemoryWorker\Contract\Shape;
use MemoryWorker\Contract\Vector;
use MemoryWorker\Exception\InvalidJob;
use MemoryWorker\Exception\MemoryWorkerError;
use MemoryWorker\MemoryQueue;
use MemoryWorker\Receipt;
use MemoryWorker\Tests\Support\FakeConnection;
use MemoryWorker\Tests\Support\Golden;
use MemoryWorker\Tests\Support\MessagePackReader;
use MemoryWorker\Tests\Support\NotInPhp;
use MemoryWorker\Tests\Support\Plain;
use PHPUnit\Framework\TestCase;

/** The files that all clients share: the same call makes the same job, and the same mistake the same error. */
final class GoldenTest extends TestCase
{
    /** The methods whose arguments are the fields of their job. */
    private const OPS = [
        'upsert', 'delete', 'purge', 'patch', 'prune',
        'search', 'get', 'list', 'count', 'facet', 'files', 'stats',
    ];

    /** @return array<string, array{\stdClass}> */
    public static function writes(): array
    {
        return Golden::cases('jobs', 'writes');
    }

    /** @dataProvider writes */
    public function testAWriteMakesTheSameBytes(\stdClass $case): void
    {
        if ($case->jobs === []) {
            $redis = new FakeConnection();
            self::assertSame([], $this->call($redis, $case));
            self::assertSame([], $redis->pushed());

            return;
        }
        foreach ((array) $case->jobs[0]->partitions as $partitions => $_) {
            $redis = new FakeConnection(['partitions' => (string) $partitions] + Golden::limits($case->limits));
            $this->call($redis, $case);
            $expected = [];
            foreach ($case->jobs as $job) {
                $expected[] = [((array) $job->partitions)[$partitions], $job->version, $job->msgpack];
            }
            $inHex = static fn (array $one): array => [$one[0], $one[1], bin2hex($one[2])];
            $pushed = array_map($inHex, $redis->pushed());
            self::assertSame($expected, $pushed);
        }
    }

    /** @return array<string, array{\stdClass}> */
    public static function reads(): array
    {
        return Golden::cases('jobs', 'reads');
    }

    /** @dataProvider reads */
    public function testAReadMakesTheSameJob(\stdClass $case): void
    {
        $redis = new FakeConnection(Golden::limits($case->limits));
        try {
            $this->call($redis, $case);
        } catch (\MemoryWorker\Exception\ReadFailed) { // the fake has no health to tell
        }
        $record = MessagePackReader::decode($redis->called()[0]);
        self::assertInstanceOf(\stdClass::class, $record);
        $expected = MessagePackReader::decode((string) hex2bin($case->job->msgpack));
        self::assertInstanceOf(\stdClass::class, $expected);
        $job = $record->a[0];
        self::assertEqualsWithDelta($expected->timeout_ms, $job->timeout_ms, 500);
        unset($expected->timeout_ms, $job->timeout_ms);
        self::assertSame(serialize($expected), serialize($job));
        self::assertSame($case->job->fields->op, $record->f);
        self::assertTrue($record->k->reply_json);
    }

    /** @return array<string, array{\stdClass}> */
    public static function refused(): array
    {
        return Golden::cases('errors', 'cases');
    }

    /** @dataProvider refused */
    public function testAMistakeHasTheSameError(\stdClass $case): void
    {
        $redis = new FakeConnection(Golden::limits($case->limits));
        try {
            $this->call($redis, $case);
            self::fail('nothing was refused');
        } catch (InvalidJob $error) {
            $class = substr((string) strrchr($error::class, '\\'), 1);
            self::assertSame([$case->error->class, $case->error->field], [$class, $error->field]);
            self::assertSameMessage($case, $error);
        }
        self::assertSame([], $redis->scripts('push'));
        self::assertSame([], $redis->scripts('call'));
    }

    public function testPartitions(): void
    {
        foreach (Golden::read('partitions') as $case) {
            self::assertInstanceOf(\stdClass::class, $case);
            foreach ((array) $case->partitions as $partitions => $expected) {
                self::assertSame($expected, Partition::of($case->user_id, (int) $partitions));
            }
        }
    }

    public function testIdsOfPoints(): void
    {
        foreach (Golden::read('uuids') as $case) {
            self::assertInstanceOf(\stdClass::class, $case);
            self::assertSame($case->uuid, PrimaryId::of($case->point_id));
        }
    }

    public function testPackedVectors(): void
    {
        foreach ((array) Golden::read('vectors')['packed'] as $case) {
            self::assertInstanceOf(\stdClass::class, $case);
            self::assertSame($case->hex, bin2hex(Vector::pack(Golden::value($case->numbers))->bytes), $case->name);
        }
    }

    public function testCheckedVectors(): void
    {
        foreach ((array) Golden::read('vectors')['checked'] as $case) {
            self::assertInstanceOf(\stdClass::class, $case);
            $message = null;
            try {
                $packed = Vector::pack(Golden::value($case->numbers))->bytes;
                Vector::check($packed, $case->dimension, $case->distance === 'cosine');
            } catch (InvalidJob $error) {
                $message = $error->getMessage();
            }
            self::assertSame($case->error->message ?? null, $message);
        }
    }

    /** @return array<string, array{\stdClass}> */
    public static function replies(): array
    {
        return Golden::cases('replies');
    }

    /** @dataProvider replies */
    public function testReplies(\stdClass $case): void
    {
        $redis = new FakeConnection(Golden::limits($case->limits));
        $redis->reply = $case->json ?? null;
        try {
            $result = $this->call($redis, $case);
        } catch (MemoryWorkerError $error) {
            self::assertSame($case->error->message ?? null, $error->getMessage());
            self::assertSame($case->error->code, $error->errorCode ?? null);

            return;
        }
        self::assertSame(Plain::json($case->result), Plain::json(Plain::of($result)));
    }

    public function testOutcomes(): void
    {
        $redis = new FakeConnection();
        $expected = [];
        foreach (Golden::read('outcomes') as $case) {
            self::assertInstanceOf(\stdClass::class, $case);
            $fields = [];
            foreach ((array) $case->fields as $name => $value) {
                array_push($fields, (string) $name, $value);
            }
            $redis->outcomes[] = [$case->id, $fields];
            $expected[] = $case->outcome;
        }
        self::assertSame(Plain::json($expected), Plain::json(Plain::of((new MemoryQueue($redis))->outcomes())));
    }

    /** @return array<string, array{\stdClass}> */
    public static function states(): array
    {
        return Golden::cases('states');
    }

    /** @dataProvider states */
    public function testStatesWithoutReplays(\stdClass $case): void
    {
        if ($case->state->replay !== null) {
            self::assertNotSame('', $case->state->replay); // these need a real Redis

            return;
        }
        $redis = new FakeConnection();
        $redis->states = $case->script;
        foreach ($case->redis as $words) {
            if ($words[1] === 'mw:paused') {
                $redis->paused = array_column(array_chunk(array_slice($words, 2), 2), 1, 0);
            }
        }
        $queue = new MemoryQueue($redis);
        $receipt = Receipt::parse($case->receipt);
        self::assertSame(Plain::json([$case->state]), Plain::json(Plain::of($queue->states([$receipt]))));
        $message = null;
        try {
            $queue->waitApplied($receipt, $case->wait_applied->timeout);
        } catch (MemoryWorkerError $error) {
            $message = $error->getMessage();
        }
        self::assertSame($case->wait_applied->error->message ?? null, $message);
    }

    public function testReceipts(): void
    {
        foreach (Golden::read('receipts') as $case) {
            self::assertInstanceOf(\stdClass::class, $case);
            try {
                $text = Golden::value($case->text);
                self::assertIsString($text);
                $receipt = Receipt::parse($text);
                self::assertSame($case->receipt->text, (string) $receipt);
                self::assertSame($case->receipt->partition, $receipt->partition);
                self::assertSame($case->receipt->entry_id, $receipt->entryId);
            } catch (InvalidJob $error) {
                self::assertSame($case->error->message ?? null, $error->getMessage());
            } catch (NotInPhp) {
                continue;
            }
        }
    }

    /** @return array<string, array{\stdClass}> */
    public static function redisErrors(): array
    {
        return Golden::cases('redis_errors');
    }

    /** @dataProvider redisErrors */
    public function testErrorsOfRedis(\stdClass $case): void
    {
        $redis = new FakeConnection(Golden::limits('none'));
        $redis->failures = array_fill(0, 3, $case->redis);
        try {
            (new MemoryQueue($redis))->purge(userId: 1730);
            self::fail('nothing was thrown');
        } catch (MemoryWorkerError $error) {
            self::assertSame($case->error->class, substr((string) strrchr($error::class, '\\'), 1));
            self::assertSameMessage($case, $error);
        }
    }

    private static function assertSameMessage(\stdClass $case, \Throwable $error): void
    {
        if (($case->message_is_from ?? $case->error->message_is_from ?? '') !== 'python') {
            self::assertSame($case->error->message, $error->getMessage());
        }
    }

    public function testScripts(): void
    {
        foreach (Golden::read('scripts') as $name => $digest) {
            self::assertSame($digest, sha1_file(dirname(__DIR__, 2) . "/lua/$name.lua"), "$name.lua");
        }
    }

    private function call(FakeConnection $redis, \stdClass $case): mixed
    {
        try {
            return Golden::call(new MemoryQueue($redis), $case);
        } catch (NotInPhp $error) {
            self::markTestSkipped($error->getMessage());
        } catch (\TypeError $error) {
            if (preg_match('/^MemoryWorker.MemoryQueue::\w+\(\): Argument/', $error->getMessage()) !== 1) {
                throw $error;
            }

            return $this->checkFields($case, $error->getMessage());
        }
    }

    /** Check arguments that have a wrong type for PHP as the fields of a job. Only a map can have them. */
    private function checkFields(\stdClass $case, string $problem): mixed
    {
        if (!in_array($case->method, self::OPS, true) || !isset($case->error)) {
            self::markTestSkipped($problem);
        }
        $fields = Golden::fields($case);
        foreach ($fields as $name => $_) {
            if (!isset(Fields::of($case->method)[$name]) || $name === 'after') {
                self::markTestSkipped($problem);
            }
        }
        Shape::normalizeFields($case->method, $fields);

        return null;
    }
}
