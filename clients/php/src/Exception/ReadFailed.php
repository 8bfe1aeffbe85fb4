<?php

declare(strict_types=1);

namespace MemoryWorker\Exception;

/**
 * A read returned an error.
 *
 * ``$errorCode`` is ``invalid``, ``too_large`` (ask for fewer points), ``unavailable``, ``timeout``, ``not_applied``
 * (the job of ``after`` has not been applied) or ``internal``. An exception of PHP has a number as ``$code``, so this
 * has another name.
 */
class ReadFailed extends MemoryWorkerError
{
    public function __construct(public readonly string $errorCode, string $message)
    {
        parent::__construct("$errorCode: $message");
    }
}
