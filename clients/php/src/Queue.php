<?php

declare(strict_types=1);

namespace MemoryWorker;

/**
 * The queue of a memory-worker, for producers. `MemoryQueue` is the real one.
 *
 * For the tests of an app, `Testing\RecordingQueue` records what was pushed, and `Testing\SynchronousQueue` waits until
 * each write was applied.
 */
interface Queue extends Writes, Reads, Reports
{
}
