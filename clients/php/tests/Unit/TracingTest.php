<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Unit;

use MemoryWorker\Exception\QueueFull;
use MemoryWorker\MemoryQueue;
use MemoryWorker\Tests\Support\FakeConnection;
use MemoryWorker\Tests\Support\MessagePackReader;
use MemoryWorker\Wire\Tracing;
use OpenTelemetry\API\Trace\Span;
use PHPUnit\Framework\TestCase;

/** The trace context that goes with each job, and the spans of an app that is traced. */
final class TracingTest extends TestCase
{
    private const META = ['partitions' => '32', 'dimension' => '4', 'max_job_bytes' => '2000000'];
    private const FIRST = '00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-0000000000000001-01';

    public function testWithoutOpenTelemetryNoContextIsSent(): void
    {
        $redis = new FakeConnection(self::META);
        (new MemoryQueue($redis))->purge(userId: 1730);
        (new MemoryQueue($redis))->count(userId: 1730);
        self::assertSame('', self::argument($redis, 'push', 4));
        self::assertFalse(property_exists(MessagePackReader::decode(self::argument($redis, 'call', 1)), 'trace'));
    }

    /** @runInSeparateProcess */
    public function testAPushCarriesTheContextOfItsSpan(): void
    {
        require_once __DIR__ . '/../Support/open_telemetry.php';
        $redis = new FakeConnection(self::META);
        (new MemoryQueue($redis))->purge(userId: 1730);
        self::assertSame(self::FIRST, self::argument($redis, 'push', 4));
        [$span] = Span::$started;
        self::assertSame(['send mw', 3, true, 'Unset'], [$span->name, $span->kind, $span->hasEnded, $span->status]);
        self::assertMatchesRegularExpression('~^\d+/\d+-\d+$~', $span->attributes['messaging.message.id']);
        self::assertSame('', Tracing::context());
    }

    /** @runInSeparateProcess */
    public function testAReadCarriesTheContextOfItsSpan(): void
    {
        require_once __DIR__ . '/../Support/open_telemetry.php';
        $redis = new FakeConnection(self::META);
        (new MemoryQueue($redis))->count(userId: 1730);
        self::assertSame(self::FIRST, MessagePackReader::decode(self::argument($redis, 'call', 1))->trace);
        self::assertSame(['count mw', 1], [Span::$started[0]->name, Span::$started[0]->kind]);
    }

    /** @runInSeparateProcess */
    public function testAnErrorEndsTheSpan(): void
    {
        require_once __DIR__ . '/../Support/open_telemetry.php';
        $redis = new FakeConnection(self::META);
        $redis->failures = ['QUEUEFULL jobs 10'];
        try {
            (new MemoryQueue($redis))->purge(userId: 1730);
            self::fail('it was pushed');
        } catch (QueueFull) {
        }
        [$span] = Span::$started;
        self::assertSame(['Error', true], [$span->status, $span->hasEnded]);
        self::assertSame(QueueFull::class, $span->attributes['error.type']);
        self::assertSame('', Tracing::context());
    }

    /** @runInSeparateProcess */
    public function testTheStateGoesWithItUnlessItIsTooLong(): void
    {
        require_once __DIR__ . '/../Support/open_telemetry.php';
        foreach (['a=1,b=2' => ' a=1,b=2', str_repeat('x', 513) => ''] as $state => $rest) {
            $span = (new Span('app', '0000000000000001', $state))->activate();
            self::assertSame(self::FIRST . $rest, Tracing::context());
            $span->detach();
        }
    }

    private static function argument(FakeConnection $redis, string $script, int $position): string
    {
        [, $args] = FakeConnection::split($redis->scripts($script)[0]);

        return $args[$position];
    }
}
