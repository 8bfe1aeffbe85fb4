<?php

declare(strict_types=1);

namespace MemoryWorker\Exception;

/**
 * The number of partitions of the queue is another one than that of a push. Nothing was stored.
 */
class PartitionMismatch extends ConfigurationError
{
    public function __construct(public readonly int $actual)
    {
        parent::__construct("this Redis holds a queue of $actual partitions");
    }
}
