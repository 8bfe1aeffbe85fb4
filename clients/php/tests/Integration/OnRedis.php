<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Integration;

use MemoryWorker\MemoryQueue;
use MemoryWorker\Redis\Connection;
use MemoryWorker\Tests\Support\Servers;
use PHPUnit\Framework\TestCase;

/** A test on a real Redis. Its keys have their own prefix. */
abstract class OnRedis extends TestCase
{
    protected string $prefix;
    /** @var list<int> */
    protected array $servers = [];
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

    protected function queue(string $library): MemoryQueue
    {
        return new MemoryQueue(Servers::connection($library, Servers::factory($library)), $this->prefix);
    }

    /**
     * Run a command on a key of this test.
     *
     * @param non-empty-list<string> $words command, key without its prefix, arguments
     */
    protected function redis(string $library, array $words): mixed
    {
        return Servers::run($library, [$words[0], "$this->prefix:$words[1]", ...array_slice($words, 2)]);
    }

    protected function id(Connection $connection): string
    {
        $id = $connection->command(['CLIENT', 'ID'], 5.0);

        return is_int($id) ? (string) $id : '';
    }

    protected function startWorker(int $delayMs): void
    {
        $port = (string) (Servers::address() ?? [])['port'];
        $command = [PHP_BINARY, dirname(__DIR__) . '/Support/stub_worker.php', $port, $this->prefix, (string) $delayMs];
        $worker = proc_open($command, [['file', '/dev/null', 'r'], STDOUT, STDERR], $pipes);
        self::assertIsResource($worker);
        $this->workers[] = $worker;
    }
}
