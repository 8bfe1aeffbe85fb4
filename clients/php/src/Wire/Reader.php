<?php

declare(strict_types=1);

namespace MemoryWorker\Wire;

use MemoryWorker\Contract\Build;
use MemoryWorker\Contract\JobCheck;
use MemoryWorker\Contract\Limits;
use MemoryWorker\Contract\NormalJob;
use MemoryWorker\Contract\Text;
use MemoryWorker\Exception\ReadFailed;
use MemoryWorker\Job\ReadJob;
use MemoryWorker\Receipt;
use MemoryWorker\Result\ReadError;
use MemoryWorker\Result\Reply;

/** @internal Make read calls. Several of them run at the same time. */
final class Reader
{
    private const REPLY_MARGIN_S = 0.25;
    private const MIN_TIME_S = 0.001;

    private readonly Call $call;
    private readonly States $states;
    private readonly string $prefix;

    public function __construct(Link $link, Keys $keys, private readonly LiveMeta $meta)
    {
        $this->call = new Call($link, $keys);
        $this->states = new States($link, $keys);
        $this->prefix = $keys->prefix;
    }

    /**
     * Send all read jobs, then collect their replies.
     *
     * @template TKey of array-key
     * @param array<TKey, ReadJob> $jobs
     * @return array<TKey, Reply>
     */
    public function callMany(array $jobs): array
    {
        $jobs = Build::readJobs($jobs);
        $operation = count($jobs) === 1 ? reset($jobs)->op : 'call';

        return Tracing::sending($operation, $this->prefix, count($jobs), true, fn (): array => $this->callAll($jobs));
    }

    /**
     * @template TKey of array-key
     * @param array<TKey, NormalJob> $jobs
     * @return array<TKey, Reply>
     */
    private function callAll(array $jobs): array
    {
        $began = TimeLimit::now();
        $longest = max([0, ...array_map(static fn (NormalJob $job): int => $job->integer('timeout_ms'), $jobs)]) / 1000;
        $this->check($jobs, $longest);
        $this->awaitAll($jobs, $began);
        $sent = [];
        try {
            foreach ($jobs as $key => $job) {
                $timed = $job->with(['timeout_ms' => max(1, (int) (self::left($job, $began) * 1000))]);
                // A read with little time must not let the others fail, so it is sent in the time of the longest.
                $left = max(self::MIN_TIME_S, $longest - (TimeLimit::now() - $began));
                $sent[$key] = $this->call->enqueue($timed, new TimeLimit($left));
            }
            $replies = $this->collect($sent, $jobs, $began);
            $sent = [];

            return $replies;
        } finally {
            $this->call->cancel($sent); // those that were not collected, because of an error
        }
    }

    /**
     * Return the replies in the order of the jobs. They may come in any order, until the longest time is over.
     *
     * @template TKey of array-key
     * @param array<TKey, SentJob> $waiting
     * @param array<TKey, NormalJob> $jobs
     * @return array<TKey, Reply>
     */
    private function collect(array $waiting, array $jobs, float $began): array
    {
        $replies = array_map(self::timedOut(...), $jobs);
        while ($waiting !== []) {
            $left = max(array_map(static fn ($key): float => self::left($jobs[$key], $began), array_keys($waiting)));
            $found = $this->call->await($waiting, max(self::MIN_TIME_S, $left + self::REPLY_MARGIN_S));
            if ($found === null) {
                break;
            }
            [$key, $replies[$key]] = $found;
            unset($waiting[$key]);
        }

        return $replies;
    }

    /** @param array<array-key, NormalJob> $jobs */
    private function check(array $jobs, float $seconds): void
    {
        if ($jobs === []) {
            return;
        }
        $this->meta->check(new TimeLimit($seconds), static fn (Limits $limits): array => Build::each(
            array_values($jobs),
            static fn (NormalJob $job) => (new JobCheck($limits))->check($job),
        ));
    }

    /**
     * Wait until the jobs that the reads come after have been applied.
     *
     * @param array<array-key, NormalJob> $jobs
     */
    private function awaitAll(array $jobs, float $began): void
    {
        $applied = [];
        foreach ($jobs as $job) {
            $after = $job->textOrNull('after');
            if ($after === null) {
                continue;
            }
            if (!isset($applied[$after])) {
                $this->states->await(Receipt::parse($after), max(self::MIN_TIME_S, self::left($job, $began)));
                $applied[$after] = true;
            }
            if (self::left($job, $began) < self::MIN_TIME_S) {
                throw new ReadFailed('timeout', "no time was left when job $after had been applied");
            }
        }
    }

    /** Return the seconds that are left for a job. */
    private static function left(NormalJob $job, float $began): float
    {
        return $job->integer('timeout_ms') / 1000 - (TimeLimit::now() - $began);
    }

    private static function timedOut(NormalJob $job): Reply
    {
        $message = sprintf('no worker answered within %d ms', $job->integer('timeout_ms'));

        return new Reply(new ReadError('timeout', $message));
    }
}
