<?php

declare(strict_types=1);

namespace MemoryWorker\Exception;

/**
 * Redis has no memory left. Nothing was written.
 */
class QueueOutOfMemory extends QueueUnavailable
{
}
