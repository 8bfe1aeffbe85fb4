<?php

declare(strict_types=1);

namespace MemoryWorker\Exception;

/**
 * A setting, a client or a server cannot work as it is configured.
 */
class ConfigurationError extends MemoryWorkerError
{
}
