<?php

declare(strict_types=1);

namespace MemoryWorker\Job;

/**
 * A job that is stored in the queue. The jobs of a user are applied in the order in which they were pushed.
 *
 * All of them have two options about their outcome. ``ref`` is your own name of the job, of 1 to 128 characters. It is
 * in the outcome and in the dead letter. With ``notify``, an outcome is written when the job was applied. A job that
 * can never be applied always has an outcome.
 */
interface WriteJob extends Job
{
}
