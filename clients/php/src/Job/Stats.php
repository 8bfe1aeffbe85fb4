<?php

declare(strict_types=1);

namespace MemoryWorker\Job;

/** Count points of a user: all of them, and those of each category, group, file and embedding model. */
final class Stats extends CountingJob
{
    public function op(): string
    {
        return 'stats';
    }
}
