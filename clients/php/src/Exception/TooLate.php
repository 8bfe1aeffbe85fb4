<?php

declare(strict_types=1);

namespace MemoryWorker\Exception;

/**
 * A push reached Redis after its caller had given up. Nothing was stored.
 */
class TooLate extends QueueUnavailable
{
}
