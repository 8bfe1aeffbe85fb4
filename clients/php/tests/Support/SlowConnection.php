<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Support;

use MemoryWorker\Redis\BrokenConnection;
use MemoryWorker\Redis\Connection;

/** A connection whose replies take a time, and are not awaited longer than the caller allows. */
final class SlowConnection implements Connection
{
    public function __construct(private readonly Connection $connection, private readonly float $seconds)
    {
    }

    public function command(array $words, float $timeout): mixed
    {
        usleep((int) (min($timeout, $this->seconds) * 1e6));

        return $timeout < $this->seconds
            ? throw new BrokenConnection('no reply')
            : $this->connection->command($words, $timeout);
    }

    public function reconnect(): void
    {
        $this->connection->reconnect();
    }
}
