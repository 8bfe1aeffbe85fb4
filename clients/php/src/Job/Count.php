<?php

declare(strict_types=1);

namespace MemoryWorker\Job;

/** Count points of a user, exactly. The namespace ``*`` is the base collection and every namespace. */
final class Count extends CountingJob
{
    public function op(): string
    {
        return 'count';
    }
}
