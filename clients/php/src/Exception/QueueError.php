<?php

declare(strict_types=1);

namespace MemoryWorker\Exception;

/**
 * Base of all errors about the queue in Redis.
 */
class QueueError extends MemoryWorkerError
{
}
