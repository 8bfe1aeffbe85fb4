<?php

declare(strict_types=1);

namespace MemoryWorker\Exception;

/**
 * The job of a receipt can never be applied. It is a dead letter with this reason.
 */
class DeadLettered extends QueueError
{
    public function __construct(string $receipt, public readonly string $reason, public readonly string $detail)
    {
        parent::__construct("job $receipt is a dead letter ($reason): $detail");
    }
}
