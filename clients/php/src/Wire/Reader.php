<?php

declare(strict_types=1);

namespace MemoryWorker\Wire;

use MemoryWorker\Contract\JobCheck;
use MemoryWorker\Contract\Limits;
use MemoryWorker\Contract\NormalJob;
use MemoryWorker\Contract\Shape;
use MemoryWorker\Contract\Text;
use MemoryWorker\Exception\InvalidJob;
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

    public function __construct(Link $link, Keys $keys, private readonly LiveMeta $meta)
    {
        $this->call = new Call($link, $keys);
        $this->states = new States($link, $keys);
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
        $began = TimeLimit::now();
        $checked = $this->checked($jobs);
        $this->awaitAll($checked, $began);
        $sent = [];
        try {
            foreach ($checked as $key => $job) {
                $left = max(self::MIN_TIME_S, self::left($job, $began));
                $timed = $job->with(['timeout_ms' => max(1, (int) ($left * 1000))]);
                $sent[$key] = $this->call->enqueue($timed, new TimeLimit($left));
            }
            $replies = [];
            foreach ($checked as $key => $job) {
                $left = max(0.0, self::left($job, $began)) + self::REPLY_MARGIN_S;
                $replies[$key] = $this->call->await($sent[$key], $left) ?? self::timedOut($job);
                unset($sent[$key]);
            }

            return $replies;
        } finally {
            array_map($this->call->cancel(...), $sent); // those that were not collected, because of an error
        }
    }

    /**
     * @template TKey of array-key
     * @param array<TKey, ReadJob> $jobs
     * @return array<TKey, NormalJob>
     */
    private function checked(array $jobs): array
    {
        $checked = [];
        $position = 0;
        foreach ($jobs as $key => $job) {
            try {
                $normal = Shape::normalize($job);
                $limit = new TimeLimit($normal->integer('timeout_ms') / 1000);
                $this->meta->check($limit, static fn (Limits $limits) => (new JobCheck($limits))->check($normal));
            } catch (InvalidJob $error) {
                $count = count($jobs);
                throw $count === 1 ? $error : new InvalidJob(
                    $error->field,
                    "$error->problem (job $position of $count, counted from 0)",
                    $error,
                );
            }
            $checked[$key] = $normal;
            $position++;
        }

        return $checked;
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
