<?php

declare(strict_types=1);

namespace MemoryWorker\Job;

/**
 * A job that is answered at once. ``timeout`` is the time from the call until the reply, in seconds, at most 60.
 *
 * With ``after``, the read first waits until the job of that receipt has been applied, within the same time.
 */
interface ReadJob extends Job
{
}
