<?php

declare(strict_types=1);

namespace MemoryWorker\Exception;

/**
 * Base of all errors of this library.
 */
abstract class MemoryWorkerError extends \RuntimeException
{
}
