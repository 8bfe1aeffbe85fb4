<?php

declare(strict_types=1);

namespace MemoryWorker\Exception;

/**
 * The job of a receipt was not applied within the time to wait. It is still queued.
 */
class NotApplied extends QueueError
{
}
