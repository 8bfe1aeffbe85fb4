<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Integration;

use MemoryWorker\Exception\ConfigurationError;
use MemoryWorker\Exception\NotApplied;
use MemoryWorker\Exception\QueueUnavailable;
use MemoryWorker\MemoryQueue;
use MemoryWorker\Redis\PhpRedisConnection;
use MemoryWorker\Redis\PredisConnection;
use MemoryWorker\Tests\Support\LossyConnection;
use MemoryWorker\Tests\Support\Servers;

/** How connections behave on a real Redis, with each Redis library that is installed. */
final class ConnectionTest extends OnRedis
{
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
        $connection = Servers::connection($library, $this->loggedIn($library, $port));
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
    public function testAReadyClientWorksAgainAfterAnOutage(string $library): void
    {
        $port = Servers::start('--requirepass', 'secret');
        if ($port === null) {
            self::markTestSkipped('there is no redis-server');
        }
        $this->servers[] = $port;
        $client = $this->loggedIn($library, $port);
        $queue = new MemoryQueue(Servers::connection($library, $client), $this->prefix);
        $queue->purge(userId: 1730);
        Servers::stop($port);
        for ($attempt = 0; $attempt < 2; ++$attempt) {
            try {
                $queue->purge(userId: 1730);
                self::fail('there is no server');
            } catch (QueueUnavailable) {
            }
        }
        Servers::startOn($port, '--requirepass', 'secret');
        $queue->purge(userId: 1730);
        $found = Servers::connection($library, $client)->command(['XLEN', "$this->prefix:stream:17"], 5.0);
        self::assertSame(1, $found);
    }

    /** Frameworks make an exception of each warning. */
    public function testWarningsOfAStreamAreNoErrors(): void
    {
        if (!extension_loaded('redis')) {
            self::markTestSkipped('there is no phpredis');
        }
        $redis = new class () extends \Redis {
            public function rawCommand(mixed $command, mixed ...$arguments): mixed // @phpstan-ignore-line
            {
                trigger_error('SSL: Connection reset by peer', E_USER_WARNING);

                return parent::rawCommand($command, ...$arguments);
            }
        };
        ['host' => $host, 'port' => $port] = (array) Servers::address();
        $redis->connect($host, $port);
        set_error_handler(static fn (int $level, string $text): bool => (error_reporting() & $level) !== 0
            ? throw new \ErrorException($text)
            : true);
        try {
            (new MemoryQueue(new PhpRedisConnection($redis), $this->prefix))->purge(userId: 1730);
        } finally {
            restore_error_handler();
        }
        self::assertCount(1, $this->redis('phpredis', ['XRANGE', 'stream:17', '-', '+']));
    }

    /** @dataProvider libraries */
    public function testTheReadTimeoutOfTheAppIsKept(string $library): void
    {
        ['host' => $host, 'port' => $port] = (array) Servers::address();
        if ($library === 'Predis') {
            $client = new \Predis\Client(['host' => $host, 'port' => $port]);
        } else {
            $client = new \Redis();
            $client->connect($host, $port);
        }
        $words = ['BLPOP', "$this->prefix:none", '0.2'];
        $wait = static fn (): mixed => $client instanceof \Redis
            ? $client->rawCommand(...$words)
            : $client->executeRaw($words);
        $connection = Servers::connection($library, $client);
        $queue = new MemoryQueue($connection, $this->prefix);
        $queue->purge(userId: 1730);
        self::assertEmpty($wait()); // not an error
        $connection->reconnect();
        $queue->purge(userId: 1730);
        self::assertEmpty($wait());
        if ($client instanceof \Redis) {
            self::assertSame((float) ini_get('default_socket_timeout'), (float) $client->getReadTimeout());
        }
    }

    /** @dataProvider libraries */
    public function testACommandInATransactionOfTheAppIsRefused(string $library): void
    {
        $connection = Servers::connection($library, Servers::factory($library)());
        $queue = new MemoryQueue($connection, $this->prefix);
        $queue->purge(userId: 1730);
        $connection->command(['MULTI'], 5.0);
        try {
            $queue->purge(userId: 1730);
            self::fail('it was not refused');
        } catch (ConfigurationError $error) {
            self::assertStringContainsString('inside of a transaction', $error->getMessage());
        }
        $connection->command(['DISCARD'], 5.0);
        $queue->purge(userId: 1730);
        self::assertCount(2, $this->redis($library, ['XRANGE', 'stream:17', '-', '+']));
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
            $none = new PhpRedisConnection(static fn () => null); // @phpstan-ignore-line
            $wrong['the function must return a Redis client, got null'] = $none;
        }
        if (class_exists(\Predis\Client::class)) {
            $several = new \Predis\Client(['tcp://127.0.0.1:1', 'tcp://127.0.0.1:2'], ['cluster' => 'predis']);
            $wrong['the Predis client has several servers'] = new PredisConnection($several);
            $persistent = new \Predis\Client([...(array) Servers::address(), 'persistent' => true]);
            $wrong['the connection of Predis is persistent'] = new PredisConnection($persistent);
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

    /** Return a client that uses a database other than the first one. */
    private function loggedIn(string $library, int $port): object
    {
        if ($library === 'Predis') {
            $login = ['username' => 'default', 'password' => 'secret', 'database' => 1];

            return new \Predis\Client(['host' => '127.0.0.1', 'port' => $port, ...$login]);
        }
        $client = new \Redis();
        $client->connect('127.0.0.1', $port);
        $client->auth('secret');
        $client->select(1);

        return $client;
    }
}
