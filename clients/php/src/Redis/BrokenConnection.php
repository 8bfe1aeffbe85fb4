<?php

declare(strict_types=1);

namespace MemoryWorker\Redis;

/** @internal There is no answer from Redis. It is unknown whether it has run the command. */
final class BrokenConnection extends \RuntimeException
{
    public static function because(\Throwable $error): self
    {
        return new self($error->getMessage(), 0, $error);
    }
}
