<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Support;

use MemoryWorker\Redis\BrokenConnection;
use MemoryWorker\Redis\Connection;

/** A connection that loses the replies to the first scripts: Redis has run them, but the caller does not know. */
final class LossyConnection implements Connection
{
    public function __construct(private readonly Connection $connection, private int $losses = 1)
    {
    }

    public function command(array $words, float $timeout): mixed
    {
        $reply = $this->connection->command($words, $timeout);
        if (in_array($words[0], ['EVALSHA', 'EVAL'], true) && $this->losses-- > 0) {
            throw new BrokenConnection('the reply was lost');
        }

        return $reply;
    }

    public function reconnect(): void
    {
        $this->connection->reconnect();
    }
}
