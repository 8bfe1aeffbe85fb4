<?php

declare(strict_types=1);

namespace MemoryWorker\Exception;

/**
 * A job that can never be applied. Nothing of the push was stored.
 *
 * ``$field`` is the path of the wrong field, such as ``vector`` or ``payload.category``. The message names the limit.
 */
class InvalidJob extends MemoryWorkerError
{
    public function __construct(
        public readonly string $field,
        public readonly string $problem,
        ?\Throwable $previous = null,
    ) {
        parent::__construct("$field: $problem", 0, $previous);
    }
}
