<?php

declare(strict_types=1);

namespace MemoryWorker\Wire;

/** @internal The names of the Redis keys that a producer uses, under one prefix. */
final class Keys
{
    public readonly string $meta;
    public readonly string $since;
    public readonly string $backlog;
    public readonly string $stats;
    public readonly string $paused;
    public readonly string $outcomes;
    public readonly string $drain;
    public readonly string $drainWakeup;
    public readonly string $search;
    public readonly string $searchWakeup;
    /** The list of read jobs that no worker has taken. */
    public readonly string $searchCalls;
    /** The key that exists while a worker takes read jobs from that list. */
    public readonly string $searchTaker;

    public function __construct(public readonly string $prefix = 'mw')
    {
        $this->meta = "$prefix:meta";
        $this->since = "$prefix:since";
        $this->backlog = "$prefix:backlog";
        $this->stats = "$prefix:stats";
        $this->paused = "$prefix:paused";
        $this->outcomes = "$prefix:outcomes";
        $this->drain = "$prefix:drain";
        $this->drainWakeup = "$prefix:drain:wakeup";
        $this->search = "$prefix:search";
        $this->searchWakeup = "$prefix:search:wakeup";
        $this->searchCalls = "$prefix:search:calls";
        $this->searchTaker = "$prefix:search:taker";
    }

    /** Return the key of the entry ids of one push. */
    public function pushed(string $token): string
    {
        return "$this->prefix:pushed:$token";
    }

    public function stream(int $partition): string
    {
        return "$this->prefix:stream:$partition";
    }

    /** Return the key that shows how far a partition has been applied. */
    public function applied(int $partition): string
    {
        return "$this->prefix:applied:$partition";
    }

    public function dead(int $partition): string
    {
        return "$this->prefix:dead:$partition";
    }

    /** Return the key of the dead letters of a partition that were dropped or replayed. */
    public function removed(int $partition): string
    {
        return "$this->prefix:removed:$partition";
    }

    public function drainJobId(int $partition): string
    {
        return "$this->prefix:drain:$partition";
    }

    public function reply(string $jobId): string
    {
        return "$this->prefix:reply:$jobId";
    }

    /** Return arq's key for a job. */
    public function arqJob(string $jobId): string
    {
        return "arq:job:$jobId";
    }
}
