<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Support;

use MemoryWorker\Redis\Connection;
use MemoryWorker\Redis\PhpRedisConnection;
use MemoryWorker\Redis\PredisConnection;

/** The Redis of the integration tests, in the environment variable TEST_REDIS_URL, and clients for it. */
final class Servers
{
    /** @var array<int, resource> */
    private static array $started = [];

    /** @return array{host: string, port: int}|null */
    public static function address(): ?array
    {
        $url = parse_url((string) getenv('TEST_REDIS_URL'));

        return isset($url['host']) ? ['host' => $url['host'], 'port' => $url['port'] ?? 6379] : null;
    }

    /** @return array<string, array{string}> the libraries that are installed */
    public static function libraries(): array
    {
        $found = [];
        if (extension_loaded('redis')) {
            $found['phpredis'] = ['phpredis'];
        }
        if (class_exists(\Predis\Client::class)) {
            $found['Predis'] = ['Predis'];
        }

        return $found;
    }

    /** @return \Closure(): object a function that makes a client */
    public static function factory(string $library, ?int $port = null, float $readTimeout = 5.0): \Closure
    {
        ['host' => $host, 'port' => $default] = self::address() ?? throw new \LogicException('there is no Redis');
        $port ??= $default;

        return static function () use ($library, $host, $port, $readTimeout): object {
            if ($library === 'Predis') {
                return new \Predis\Client(['host' => $host, 'port' => $port, 'read_write_timeout' => $readTimeout]);
            }
            $redis = new \Redis();
            $redis->connect($host, $port, 2.0, null, 0, $readTimeout);

            return $redis;
        };
    }

    public static function connection(string $library, object $client): Connection
    {
        return $library === 'Predis' ? new PredisConnection($client) : new PhpRedisConnection($client);
    }

    /**
     * Run a command over a separate connection.
     *
     * @param non-empty-list<string> $words
     */
    public static function run(string $library, array $words, ?int $port = null): mixed
    {
        return self::connection($library, self::factory($library, $port))->command($words, 5.0);
    }

    /**
     * Start a Redis server on a free port, or ``$again`` on that of a server that has ended. Return the port, or null if
     * there is no redis-server.
     */
    public static function startOn(?int $again, string ...$options): ?int
    {
        $socket = stream_socket_server('tcp://127.0.0.1:0');
        if ($socket === false || trim((string) shell_exec('command -v redis-server')) === '') {
            return null;
        }
        $free = (int) substr((string) strrchr((string) stream_socket_get_name($socket, false), ':'), 1);
        fclose($socket);
        $port = $again ?? $free;
        $command = [
            'redis-server', '--port', (string) $port, '--bind', '127.0.0.1', '--save', '',
            '--dir', sys_get_temp_dir(), '--dbfilename', self::file($port), ...$options,
        ];
        $nowhere = ['file', '/dev/null', 'w'];
        $process = proc_open($command, [['file', '/dev/null', 'r'], $nowhere, $nowhere], $pipes);
        if (!is_resource($process)) {
            return null;
        }
        self::$started[$port] = $process;
        $deadline = hrtime(true) + 10e9;
        while (@fsockopen('127.0.0.1', $port) === false && hrtime(true) < $deadline) {
            usleep(10_000);
        }

        return $port;
    }

    /** Start a Redis server on a free port. Return the port, or null if there is no redis-server. */
    public static function start(string ...$options): ?int
    {
        return self::startOn(null, ...$options);
    }

    public static function stop(int $port): void
    {
        if (isset(self::$started[$port])) {
            proc_terminate(self::$started[$port], 9);
            proc_close(self::$started[$port]);
            unset(self::$started[$port]);
            @unlink(sys_get_temp_dir() . '/' . self::file($port));
        }
    }

    private static function file(int $port): string
    {
        return "memory-worker-test-$port.rdb";
    }
}
