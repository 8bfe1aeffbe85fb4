<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Integration;

use MemoryWorker\Exception\ConfigurationError;
use MemoryWorker\Exception\MemoryWorkerError;
use MemoryWorker\Exception\NotApplied;
use MemoryWorker\Exception\NotReplicated;
use MemoryWorker\Exception\QueueFull;
use MemoryWorker\Exception\QueueUnavailable;
use MemoryWorker\Exception\ReadFailed;
use MemoryWorker\Job\Count;
use MemoryWorker\MemoryQueue;
use MemoryWorker\Receipt;
use MemoryWorker\Redis\Connection;
use MemoryWorker\Redis\PhpRedisConnection;
use MemoryWorker\Redis\PredisConnection;
use MemoryWorker\Result\Reply;
use MemoryWorker\Tests\Support\Golden;
use MemoryWorker\Tests\Support\LossyConnection;
use MemoryWorker\Tests\Support\Plain;
use MemoryWorker\Tests\Support\Servers;
use PHPUnit\Framework\TestCase;

/** The library on a real Redis, with each Redis library that is installed. */
final class RedisTest extends TestCase
{
    private string $prefix;
    /** @var list<int> */
    private array $servers = [];
    /** @var list<resource> */
    private array $workers = [];

    protected function setUp(): void
    {
        if (Servers::address() === null) {
            self::markTestSkipped('TEST_REDIS_URL is not set');
        }
        $this->prefix = 't' . bin2hex(random_bytes(6));
    }

    protected function tearDown(): void
    {
        foreach ($this->workers as $worker) {
            proc_terminate($worker, 9);
            proc_close($worker);
        }
        array_map(Servers::stop(...), $this->servers);
        $library = array_key_first(Servers::libraries());
        if (Servers::address() !== null && $library !== null) {
            foreach ([$this->prefix, "arq:job:$this->prefix"] as $prefix) {
                $keys = Servers::run($library, ['KEYS', "$prefix:*"]);
                if (is_array($keys) && $keys !== []) {
                    Servers::run($library, ['DEL', ...array_map(strval(...), array_values($keys))]);
                }
            }
        }
    }

    /** @return array<string, array{string}> */
    public static function libraries(): array
    {
        return Servers::libraries();
    }

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
    public function testOptionsOfTheClientHaveNoEffect(string $library): void
    {
        if ($library === 'Predis') {
            $client = new \Predis\Client((array) Servers::address(), ['prefix' => 'other:', 'exceptions' => false]);
        } else {
            $client = Servers::factory($library)();
            self::assertInstanceOf(\Redis::class, $client);
            $client->setOption(\Redis::OPT_PREFIX, 'other:');
            $client->setOption(\Redis::OPT_SERIALIZER, \Redis::SERIALIZER_PHP);
            $client->setOption(\Redis::OPT_REPLY_LITERAL, true);
        }
        $queue = new MemoryQueue(Servers::connection($library, $client), $this->prefix);
        $receipts = [$queue->purge(userId: 1730), $queue->purge(userId: 1730)];
        self::assertCount(2, $this->redis($library, ['XRANGE', 'stream:17', '-', '+']));
        self::assertSame(['waiting', 'waiting'], array_column($queue->states($receipts), 'state'));
        self::assertSame([], Servers::run($library, ['KEYS', 'other:*']));
        if ($client instanceof \Redis) {
            self::assertSame(5.0, (float) $client->getOption(\Redis::OPT_READ_TIMEOUT));
        }
    }

    /** @dataProvider libraries */
    public function testABrokenConnectionIsReplacedAndThePushStoredOnce(string $library): void
    {
        foreach ([Servers::factory($library), Servers::factory($library)()] as $client) {
            $connection = Servers::connection($library, $client);
            $queue = new MemoryQueue($connection, $this->prefix);
            $queue->purge(userId: 1);
            $id = $connection->command(['CLIENT', 'ID'], 1.0);
            Servers::run($library, ['CLIENT', 'KILL', 'ID', is_int($id) ? (string) $id : '']);
            $before = count($this->redis($library, ['XRANGE', 'stream:23', '-', '+']));
            $queue->purge(userId: 1);
            self::assertCount($before + 1, $this->redis($library, ['XRANGE', 'stream:23', '-', '+']));
        }
    }

    /** @dataProvider libraries */
    public function testAPushWhoseReplyWasLostIsStoredOnce(string $library): void
    {
        $lossy = new LossyConnection(Servers::connection($library, Servers::factory($library)));
        $receipt = (new MemoryQueue($lossy, $this->prefix))->purge(userId: 1730);
        $entries = $this->redis($library, ['XRANGE', 'stream:17', '-', '+']);
        self::assertSame([$receipt->entryId], array_column($entries, 0));
    }

    /** @dataProvider libraries */
    public function testAReplicaIsLeftForThePrimary(string $library): void
    {
        ['host' => $host, 'port' => $port] = Servers::address() ?? ['host' => '', 'port' => 0];
        $replica = Servers::start('--replicaof', $host, (string) $port);
        if ($replica === null) {
            self::markTestSkipped('there is no redis-server');
        }
        $this->servers[] = $replica;
        $made = 0;
        $find = static function () use ($library, $replica, &$made): object {
            return Servers::factory($library, $made++ === 0 ? $replica : null)();
        };
        $queue = new MemoryQueue(Servers::connection($library, $find), $this->prefix);
        $this->untilReadonly($library, $replica);
        $queue->purge(userId: 1730);
        self::assertSame(2, $made);
        self::assertCount(1, $this->redis($library, ['XRANGE', 'stream:17', '-', '+']));

        $ready = Servers::connection($library, Servers::factory($library, $replica)());
        $this->expectException(QueueUnavailable::class);
        $this->expectExceptionMessageMatches('/READONLY|MASTERDOWN|LOADING/');
        (new MemoryQueue($ready, $this->prefix))->purge(userId: 1730);
    }

    /** @dataProvider libraries */
    public function testAReadyClientReconnectsWithItsPasswordAndDatabase(string $library): void
    {
        $port = Servers::start('--requirepass', 'secret');
        if ($port === null) {
            self::markTestSkipped('there is no redis-server');
        }
        $this->servers[] = $port;
        if ($library === 'Predis') {
            $login = ['username' => 'default', 'password' => 'secret', 'database' => 1];
            $client = new \Predis\Client(['host' => '127.0.0.1', 'port' => $port, ...$login]);
        } else {
            $client = new \Redis();
            $client->connect('127.0.0.1', $port);
            $client->auth('secret');
            $client->select(1);
        }
        $connection = Servers::connection($library, $client);
        $id = $connection->command(['CLIENT', 'ID'], 5.0);
        $connection->reconnect();
        self::assertNotSame($id, $connection->command(['CLIENT', 'ID'], 5.0));
        self::assertIsString($found = $connection->command(['CLIENT', 'LIST', 'ID', $this->id($connection)], 5.0));
        self::assertStringContainsString(' db=1 ', $found);
    }

    /** @dataProvider libraries */
    public function testAPasswordThatIsRefusedIsUnavailable(string $library): void
    {
        $port = Servers::start('--requirepass', 'secret');
        if ($port === null) {
            self::markTestSkipped('there is no redis-server');
        }
        $this->servers[] = $port;
        $queue = new MemoryQueue(Servers::connection($library, Servers::factory($library, $port)), $this->prefix);
        $this->expectException(QueueUnavailable::class);
        $this->expectExceptionMessage('Redis: Authentication required.');
        $queue->purge(userId: 1730);
    }

    /** @dataProvider libraries */
    public function testAServerThatIsGoneIsUnavailable(string $library): void
    {
        $port = Servers::start();
        if ($port === null) {
            self::markTestSkipped('there is no redis-server');
        }
        $this->servers[] = $port;
        $queue = new MemoryQueue(Servers::connection($library, Servers::factory($library, $port)), $this->prefix);
        $queue->purge(userId: 1730);
        Servers::stop($port);
        $this->expectException(QueueUnavailable::class);
        $queue->purge(userId: 1730);
    }

    /** @dataProvider libraries */
    public function testWaitsAreNotCutShortByTheReadTimeout(string $library): void
    {
        $client = Servers::factory($library, readTimeout: 0.1)();
        $queue = new MemoryQueue(Servers::connection($library, $client), $this->prefix);
        $receipt = $queue->purge(userId: 1730);
        $began = hrtime(true);
        try {
            $queue->waitApplied($receipt, 0.4);
            self::fail('it was not applied');
        } catch (NotApplied $error) {
            self::assertSame("job $receipt was not applied within 0.4 s; it is still queued", $error->getMessage());
        }
        self::assertSame([], $queue->outcomes(timeout: 0.3));
        self::assertGreaterThan(0.65e9, hrtime(true) - $began);
        $this->startWorker(300);
        self::assertSame(1730, $queue->count(userId: 1730, timeout: 5));
        $this->redis($library, ['XADD', 'applied:17', $receipt->entryId, 'n', '1']);
        $queue->waitApplied($receipt, 0.4);
        self::assertSame('applied', $queue->states([$receipt])[0]->state);
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
            foreach (['since', 'applied:5', 'dead:5', 'removed:5'] as $key) {
                $this->redis($library, ['DEL', $key]);
            }
        }
    }

    public function testAClientThatCannotWorkIsRefused(): void
    {
        $wrong = [];
        if (extension_loaded('redis')) {
            $redis = Servers::factory('phpredis')();
            self::assertInstanceOf(\Redis::class, $redis);
            $redis->multi();
            $wrong['the Redis client is inside of a transaction or a pipeline'] = new PhpRedisConnection($redis);
            $other = new PhpRedisConnection(new \ArrayObject());
            $wrong['expected a client of phpredis or Relay, got ArrayObject'] = $other;
        }
        if (class_exists(\Predis\Client::class)) {
            $several = new \Predis\Client(['tcp://127.0.0.1:1', 'tcp://127.0.0.1:2'], ['cluster' => 'predis']);
            $wrong['the Predis client has several servers'] = new PredisConnection($several);
        }
        foreach ($wrong as $problem => $connection) {
            try {
                (new MemoryQueue($connection, $this->prefix))->purge(userId: 1730);
                self::fail('it was not refused');
            } catch (ConfigurationError $error) {
                self::assertStringStartsWith($problem, $error->getMessage());
            }
        }
    }

    private function queue(string $library): MemoryQueue
    {
        return new MemoryQueue(Servers::connection($library, Servers::factory($library)), $this->prefix);
    }

    /**
     * Run a command on a key of this test.
     *
     * @param non-empty-list<string> $words command, key without its prefix, arguments
     */
    private function redis(string $library, array $words): mixed
    {
        return Servers::run($library, [$words[0], "$this->prefix:$words[1]", ...array_slice($words, 2)]);
    }

    private function id(Connection $connection): string
    {
        $id = $connection->command(['CLIENT', 'ID'], 5.0);

        return is_int($id) ? (string) $id : '';
    }

    private function startWorker(int $delayMs): void
    {
        $port = (string) (Servers::address() ?? [])['port'];
        $command = [PHP_BINARY, dirname(__DIR__) . '/Support/stub_worker.php', $port, $this->prefix, (string) $delayMs];
        $worker = proc_open($command, [['file', '/dev/null', 'r'], STDOUT, STDERR], $pipes);
        self::assertIsResource($worker);
        $this->workers[] = $worker;
    }

    private function untilReadonly(string $library, int $port): void
    {
        $deadline = hrtime(true) + 10e9;
        do {
            $role = Servers::run($library, ['ROLE'], $port);
            usleep(10_000);
        } while (is_array($role) && ($role[3] ?? '') !== 'connected' && hrtime(true) < $deadline);
    }
}
