<?php

declare(strict_types=1);

namespace MemoryWorker\Job;

/** A request: a write job or a read job. Making one checks nothing. The push or the read checks it. */
interface Job
{
    /** The ``op`` of the job on the wire. */
    public function op(): string;

    /**
     * The fields that are given, by their names on the wire and in their order on the wire.
     *
     * @return array<string, mixed>
     */
    public function fields(): array;
}
