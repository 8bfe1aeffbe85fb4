<?php

declare(strict_types=1);

namespace MemoryWorker\Exception;

use MemoryWorker\Receipt;

/**
 * Of many jobs, only the first were stored, in order. ``$stored`` has their receipts.
 *
 * ``getPrevious()`` says why. If it is `QueueUnavailable`, the next few jobs may have been stored, too.
 */
class PushedInPart extends QueueError
{
    /** @param non-empty-list<Receipt> $stored */
    public function __construct(
        public readonly array $stored,
        public readonly int $wanted,
        ?\Throwable $previous = null,
    ) {
        $message = 'only the first %s of %s jobs were stored';
        parent::__construct(sprintf($message, number_format(count($stored)), number_format($wanted)), 0, $previous);
    }
}
