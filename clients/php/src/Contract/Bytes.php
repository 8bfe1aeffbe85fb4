<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

/** @internal Bytes that are not text, such as a packed vector. */
final class Bytes
{
    public function __construct(public readonly string $bytes)
    {
    }
}
