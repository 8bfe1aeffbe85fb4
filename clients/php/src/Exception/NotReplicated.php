<?php

declare(strict_types=1);

namespace MemoryWorker\Exception;

/**
 * Too few replicas of Redis have the write. It is stored, but a failover may lose it, so push again.
 */
class NotReplicated extends QueueUnavailable
{
}
