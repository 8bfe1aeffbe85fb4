<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Examples;

use MemoryWorker\MemoryQueue;
use MemoryWorker\Queue;
use MemoryWorker\Redis\Connection;
use MemoryWorker\Redis\PhpRedisConnection;
use MemoryWorker\Redis\PredisConnection;

/** The queue of a running worker. Its address is in the environment; without one the tests are skipped. */
trait RealWorker
{
    private Queue $queue;
    /** A user of this test alone. */
    private int $user;

    private function connect(): void
    {
        if (getenv('TEST_REDIS_URL') === false) {
            self::markTestSkipped('TEST_REDIS_URL is not set');
        }
        $this->user = random_int(1, 2 ** 50);
        $this->queue = new MemoryQueue(self::connection(), self::prefix());
    }

    /** A queue of an app that believes in another dimension than the worker. */
    private function queueForVectorsOf(int $dimension): Queue
    {
        $redis = self::connection();
        $meta = self::prefix() . ':meta';
        $right = $redis->command(['HGET', $meta, 'dimension'], 5);
        self::assertIsString($right);
        $redis->command(['HSET', $meta, 'dimension', (string) $dimension], 5);
        $queue = new MemoryQueue($redis, self::prefix());
        $queue->upsert($this->user, "mem_{$this->user}_0", array_fill(0, $dimension, 1.0));  // reads the limits
        $redis->command(['HSET', $meta, 'dimension', $right], 5);

        return $queue;
    }

    /** @return list<float> a vector that points in one direction */
    private function axis(int $direction): array
    {
        $places = range(0, (int) getenv('TEST_DIMENSION') - 1);

        return array_map(static fn (int $place): float => $place === $direction ? 1.0 : 0.0, $places);
    }

    /** @param \Closure(): bool $condition is asked again until it holds */
    private static function eventually(\Closure $condition): void
    {
        $end = microtime(true) + 20;
        while (!$condition()) {
            self::assertLessThan($end, microtime(true), 'it did not happen in time');
            usleep(20_000);
        }
    }

    private static function prefix(): string
    {
        return (string) getenv('TEST_QUEUE_PREFIX');
    }

    private static function connection(): Connection
    {
        $url = (string) getenv('TEST_REDIS_URL');
        $host = (string) parse_url($url, PHP_URL_HOST);
        $port = (int) parse_url($url, PHP_URL_PORT);
        if (getenv('TEST_REDIS_CLIENT') === 'predis') {
            return new PredisConnection(new \Predis\Client(['host' => $host, 'port' => $port]));
        }
        $redis = new \Redis();
        $redis->connect($host, $port, 2.0);

        return new PhpRedisConnection($redis);
    }
}
