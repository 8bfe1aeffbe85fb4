<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Unit;

use MemoryWorker\Absent;
use MemoryWorker\Contract\EntryId;
use MemoryWorker\Contract\MessagePack;
use MemoryWorker\Exception\InvalidJob;
use MemoryWorker\Job\FieldCondition;
use MemoryWorker\Job\Search;
use MemoryWorker\Receipt;
use MemoryWorker\Tests\Support\FakeConnection;
use MemoryWorker\Tests\Support\Level;
use MemoryWorker\Tests\Support\MessagePackReader;
use MemoryWorker\MemoryQueue;
use PHPUnit\Framework\TestCase;

/** Values that only PHP has, and what becomes of them. */
final class ValuesTest extends TestCase
{
    public function testValuesOfPhpInAPayload(): void
    {
        $text = new class () implements \Stringable {
            public function __toString(): string
            {
                return '0198-uuid';
            }
        };
        $sent = $this->payload([
            'enum' => Level::High,
            'day' => new \DateTimeImmutable('2024-05-06 07:08:09', new \DateTimeZone('+02:00')),
            'instant' => new \DateTime('2024-05-06 07:08:09.25', new \DateTimeZone('UTC')),
            'id' => $text,
            'bad' => "a\xffb",
            "k\xff" => 1,
            'list' => [],
            'map' => new \stdClass(),
            'nested' => (object) ['0' => 'a', '1' => 'b'],
            'float' => 1.0,
        ]);
        self::assertSame('high', $sent->enum);
        self::assertSame('2024-05-06T07:08:09+02:00', $sent->day);
        self::assertSame('2024-05-06T07:08:09.250000+00:00', $sent->instant);
        self::assertSame('0198-uuid', $sent->id);
        self::assertSame("a\u{FFFD}b", $sent->bad);
        self::assertSame(1, $sent->{"k\u{FFFD}"});
        self::assertSame([], $sent->list);
        self::assertEquals(new \stdClass(), $sent->map);
        self::assertEquals((object) ['0' => 'a', '1' => 'b'], $sent->nested);
        self::assertSame('float 3ff0000000000000', $sent->float);
    }

    public function testNamesThatWouldBecomeOneAreRefused(): void
    {
        $this->expectException(InvalidJob::class);
        $this->expectExceptionMessage("payload.a.?: two field names differ only in bytes that are not UTF-8");
        $this->payload(['a' => ["\xff" => 1, "\xfe" => 2]]);
    }

    public function testAnEmptyPayloadIsLeftOutAndKeysOfDigitsMakeAMap(): void
    {
        self::assertEquals(new \stdClass(), $this->payload([]));
        self::assertEquals((object) ['5' => 'x'], $this->payload([5 => 'x']));
    }

    /** @return array<string, array{mixed, string}> */
    public static function valuesThatCannotBeStored(): array
    {
        return [
            'closure' => [static fn (): int => 1, 'Closure'],
            'generator' => [(static fn (): \Generator => yield 1)(), 'Generator'],
            'object' => [new \ArrayObject(), 'ArrayObject'],
            'resource' => [STDIN, 'resource'],
        ];
    }

    /** @dataProvider valuesThatCannotBeStored */
    public function testOtherValuesAreRefused(mixed $value, string $type): void
    {
        $this->expectException(InvalidJob::class);
        $this->expectExceptionMessage("payload.a.b[0]: a value of type $type cannot be stored: make it text, a number");
        $this->payload(['a' => ['b' => [$value]]]);
    }

    public function testAListIsNoPayload(): void
    {
        $this->expectException(InvalidJob::class);
        $this->expectExceptionMessage('payload: expected a map, got a list');
        $this->payload(['a', 'b']);
    }

    public function testVectorsMayBeIterable(): void
    {
        $redis = new FakeConnection(['partitions' => '1', 'dimension' => '2']);
        $numbers = static function (): \Generator {
            yield 'x' => 1;
            yield 'x' => 2.5;
        };
        (new MemoryQueue($redis))->upsert(userId: 1730, pointId: 'mem_1730_1', vector: $numbers());
        $job = MessagePackReader::decode($redis->pushed()[0][2]);
        self::assertInstanceOf(\stdClass::class, $job);
        self::assertSame('0000803f00002040', $job->vector->bytes);
    }

    public function testTextThatIsNotUtf8IsRefusedOutsideOfPayloads(): void
    {
        $this->expectException(InvalidJob::class);
        $this->expectExceptionMessage('ref: is not Unicode text');
        (new MemoryQueue(new FakeConnection()))->purge(userId: 1730, ref: "\xff");
    }

    public function testNullNeverWidensARequest(): void
    {
        $queue = new MemoryQueue(new FakeConnection());
        foreach (['kind', 'namespace', 'category', 'groupKey', 'fileId', 'before', 'otherThanModel'] as $name) {
            try {
                $queue->purge(...['userId' => 1730, $name => null]);
                self::fail("$name was not refused");
            } catch (InvalidJob $error) {
                self::assertStringContainsString('must not be null: leave it out to delete more', $error->getMessage());
            }
        }
        foreach (['kind', 'category', 'groupKey', 'fileId', 'active'] as $name) {
            try {
                $queue->count(...['userId' => 1730, $name => null]);
                self::fail("$name was not refused");
            } catch (InvalidJob $error) {
                self::assertStringContainsString(' null', $error->getMessage());
            }
        }
    }

    public function testAbsentIsTheDefaultAndMayBeGiven(): void
    {
        $redis = new FakeConnection();
        (new MemoryQueue($redis))->purge(userId: 1730, fileId: Absent::Field);
        $sent = MessagePackReader::decode($redis->pushed()[0][2]);
        self::assertEquals((object) ['op' => 'purge', 'user_id' => 1730], $sent);
    }

    public function testConditionsMayBeObjects(): void
    {
        $search = new Search(1730, like: 'mem_1730_1', where: [
            'created' => new FieldCondition(gte: 5, orAbsent: true),
            'category' => ['any' => ['a', 'b'], 'or_absent' => false],
        ]);
        $redis = new FakeConnection();
        (new MemoryQueue($redis))->callMany([$search]);
        $record = MessagePackReader::decode($redis->called()[0]);
        self::assertInstanceOf(\stdClass::class, $record);
        $expected = [
            'category' => (object) ['any' => ['a', 'b']],
            'created' => (object) ['gte' => 5, 'or_absent' => true],
        ];
        self::assertEquals((object) $expected, $record->a[0]->where);
    }

    public function testReceiptsSurviveARequest(): void
    {
        $receipt = new Receipt(17, '1732000000000-3');
        self::assertEquals($receipt, Receipt::parse((string) $receipt));
        self::assertSame('"17\/1732000000000-3"', json_encode($receipt));
        self::assertEquals($receipt, unserialize(serialize($receipt)));
    }

    public function testIdsOfEntriesHave64BitsWithoutASign(): void
    {
        self::assertSame('5-0', EntryId::before('5-1'));
        self::assertSame('4-18446744073709551615', EntryId::before('5-0'));
        self::assertSame('99-18446744073709551615', EntryId::before('100-0'));
        self::assertSame('1-18446744073709551614', EntryId::before('1-18446744073709551615'));
        self::assertSame('1-9999999999999999999', EntryId::before('1-10000000000000000000'));
        self::assertLessThan(EntryId::padded('10-0'), EntryId::padded('9-18446744073709551615'));
    }

    /** @return array<string, array{mixed, string}> */
    public static function bytesOfValues(): array
    {
        return [
            'fixint' => [127, '7f'],
            'uint8' => [128, 'cc80'],
            'uint16' => [256, 'cd0100'],
            'uint32' => [65536, 'ce00010000'],
            'uint64' => [2 ** 32, 'cf0000000100000000'],
            'negative fixint' => [-32, 'e0'],
            'int8' => [-33, 'd0df'],
            'int16' => [-129, 'd1ff7f'],
            'int32' => [-32769, 'd2ffff7fff'],
            'int64' => [PHP_INT_MIN, 'd38000000000000000'],
            'negative zero' => [-0.0, 'cb8000000000000000'],
            'text of 32' => [str_repeat('a', 32), 'd920' . str_repeat('61', 32)],
            'list of 16' => [array_fill(0, 16, 0), 'dc0010' . str_repeat('00', 16)],
        ];
    }

    /** @dataProvider bytesOfValues */
    public function testMessagePackHasTheShortestForms(mixed $value, string $hex): void
    {
        self::assertSame($hex, bin2hex(MessagePack::encode($value)));
    }

    public function testLongTextsAndMaps(): void
    {
        foreach ([255, 256, 65535, 65536] as $length) {
            $text = str_repeat('a', $length);
            self::assertSame($text, MessagePackReader::decode(MessagePack::encode($text)));
        }
        $map = array_fill_keys(array_map(static fn (int $n): string => "k$n", range(1, 70_000)), true);
        $decoded = MessagePackReader::decode(MessagePack::encode($map));
        self::assertInstanceOf(\stdClass::class, $decoded);
        self::assertCount(70_000, (array) $decoded);
    }

    /** @param array<array-key, mixed> $payload */
    private function payload(array $payload): \stdClass
    {
        $redis = new FakeConnection();
        (new MemoryQueue($redis))->upsert(userId: 1730, pointId: 'mem_1730_1', vector: [1], payload: $payload);
        $job = MessagePackReader::decode($redis->pushed()[0][2]);
        self::assertInstanceOf(\stdClass::class, $job);

        return $job->payload ?? new \stdClass();
    }
}
