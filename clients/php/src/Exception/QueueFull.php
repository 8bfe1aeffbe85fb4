<?php

declare(strict_types=1);

namespace MemoryWorker\Exception;

/**
 * The backlog is at its limit. Nothing of this push was stored.
 */
class QueueFull extends QueueError
{
    /** @param string $what ``jobs``, ``bytes`` or ``reads`` */
    public function __construct(public readonly string $what, public readonly int $limit)
    {
        $most = number_format($limit);
        parent::__construct("the queue is full: at most $most $what may wait; nothing was stored");
    }
}
