<?php

declare(strict_types=1);

namespace MemoryWorker\Exception;

/**
 * Redis cannot be reached, did not answer in time, or refuses the request. It may succeed later.
 *
 * A push has then been stored once, or will never be stored.
 */
class QueueUnavailable extends QueueError
{
}
