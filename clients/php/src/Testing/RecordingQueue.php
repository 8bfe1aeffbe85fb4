<?php

declare(strict_types=1);

namespace MemoryWorker\Testing;

use MemoryWorker\Contract\Build;
use MemoryWorker\Contract\JobCheck;
use MemoryWorker\Contract\Kinds;
use MemoryWorker\Contract\Limits;
use MemoryWorker\Contract\NormalJob;
use MemoryWorker\Contract\Partition;
use MemoryWorker\Contract\Shape;
use MemoryWorker\Contract\WriteEncoding;
use MemoryWorker\Exception\MemoryWorkerError;
use MemoryWorker\Exception\UnknownReceipt;
use MemoryWorker\Job\ReadJob;
use MemoryWorker\Job\WriteJob;
use MemoryWorker\JobState;
use MemoryWorker\Outcome;
use MemoryWorker\Queue;
use MemoryWorker\ReadsByCalling;
use MemoryWorker\Receipt;
use MemoryWorker\Result\QueueReport;
use MemoryWorker\Result\Reply;
use MemoryWorker\WritesByPushing;

/**
 * A queue for unit tests of an app. It needs no Redis and no worker.
 *
 * It checks jobs as the real queue does, records them, and counts them as applied. Reads find nothing, unless
 * `willAnswer` says what they find.
 */
final class RecordingQueue implements Queue
{
    use WritesByPushing;
    use ReadsByCalling;
    use Assertions;

    private const PARTITIONS = 32;

    private readonly Limits $limits;
    /** @var list<WriteJob> */
    private array $pushed = [];
    /** @var list<ReadJob> */
    private array $read = [];
    /** @var array<string, true> */
    private array $receipts = [];
    /** @var array<string, list<Reply>> */
    private array $answers = [];
    /** @var list<MemoryWorkerError> */
    private array $failures = [];
    /** @var list<Outcome> */
    private array $outcomes = [];

    /**
     * ``$dimension`` is that of the vectors; null allows any. ``$kinds`` is the JSON of the kinds, as in ``mw:meta``;
     * null means the built-in ones.
     */
    public function __construct(?int $dimension = null, ?string $kinds = null)
    {
        $this->limits = new Limits($dimension, kinds: $kinds === null ? null : Kinds::decode($kinds));
    }

    /**
     * Answer the next read of this class, such as ``Search::class``, with ``$reply``: ``new Reply(hits: [...])``.
     *
     * @param class-string<ReadJob> $job
     */
    public function willAnswer(string $job, Reply $reply): void
    {
        $this->answers[$job][] = $reply;
    }

    /** Throw this error at the next push, which then records nothing. */
    public function willFail(MemoryWorkerError $error): void
    {
        $this->failures[] = $error;
    }

    /** Let `outcomes` return this outcome. */
    public function willReport(Outcome $outcome): void
    {
        $this->outcomes[] = $outcome;
    }

    /**
     * Return the jobs that were pushed, in order. Maps and arguments have become jobs.
     *
     * @template T of WriteJob
     * @param class-string<T> $class only jobs of this class
     * @return list<T>
     */
    public function pushed(string $class = WriteJob::class): array
    {
        return array_values(array_filter($this->pushed, static fn (WriteJob $job): bool => $job instanceof $class));
    }

    /**
     * Return the read jobs that were called, in order.
     *
     * @return list<ReadJob>
     */
    public function called(): array
    {
        return $this->read;
    }

    public function pushMany(iterable $jobs): array
    {
        $jobs = Build::writeJobs($jobs);
        $normal = Build::each($jobs, Shape::normalize(...));
        Build::each($normal, fn (NormalJob $job): string => WriteEncoding::encode($job, $this->limits));
        $failure = array_shift($this->failures);
        if ($failure !== null) {
            throw $failure;
        }
        $receipts = [];
        foreach ($jobs as $position => $job) {
            $this->pushed[] = $job;
            $id = sprintf('1732000000000-%d', count($this->pushed));
            $receipts[] = $receipt = new Receipt(Partition::of($normal[$position]->userId(), self::PARTITIONS), $id);
            $this->receipts[(string) $receipt] = true;
        }

        return $receipts;
    }

    public function callMany(array $jobs): array
    {
        Build::each(
            array_values(Build::readJobs($jobs)),
            fn (NormalJob $job) => (new JobCheck($this->limits))->check($job),
        );
        $replies = [];
        foreach ($jobs as $key => $job) {
            $this->read[] = $job;
            $answers = $this->answers[$job::class] ?? [];
            $replies[$key] = array_shift($answers) ?? new Reply();
            $this->answers[$job::class] = $answers;
        }

        return $replies;
    }

    public function waitApplied(Receipt $receipt, int|float $timeout = 5.0): void
    {
        if (!isset($this->receipts[(string) $receipt])) {
            throw new UnknownReceipt("Redis has lost data about job $receipt, so its state is unknown");
        }
    }

    public function states(iterable $receipts): array
    {
        $states = [];
        foreach ($receipts as $receipt) {
            $states[] = new JobState($receipt, isset($this->receipts[(string) $receipt]) ? 'applied' : 'unknown');
        }

        return $states;
    }

    public function outcomes(?string $after = null, int $count = 100, int|float $timeout = 0.0): array
    {
        $found = $this->outcomes;
        foreach ($found as $position => $outcome) {
            if ($outcome->id === $after) {
                $found = array_slice($found, $position + 1);
                break;
            }
        }

        return array_slice($found, 0, $count);
    }

    public function status(): ?QueueReport
    {
        return null;
    }
}
