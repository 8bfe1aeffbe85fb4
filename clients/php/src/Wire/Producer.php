<?php

declare(strict_types=1);

namespace MemoryWorker\Wire;

use MemoryWorker\Contract\Build;
use MemoryWorker\Contract\Limits;
use MemoryWorker\Contract\NormalJob;
use MemoryWorker\Contract\Partition;
use MemoryWorker\Contract\Shape;
use MemoryWorker\Contract\WriteEncoding;
use MemoryWorker\Exception\InvalidJob;
use MemoryWorker\Exception\PartitionMismatch;
use MemoryWorker\Exception\PushedInPart;
use MemoryWorker\Exception\QueueError;
use MemoryWorker\Exception\TooLate;
use MemoryWorker\Receipt;

/** @internal Push jobs. It remembers the limits of the queue and the clock of Redis. */
final class Producer
{
    private const MAX_JOBS = 256;
    private const MAX_BYTES = 1_048_576;

    private readonly Push $push;

    public function __construct(
        Link $link,
        Keys $keys,
        private readonly LiveMeta $meta,
        private readonly float $timeout,
    ) {
        $this->push = new Push($link, $keys);
    }

    /**
     * Push jobs in order, in chunks. Each chunk is stored as a whole. Return the receipts.
     *
     * @param iterable<mixed> $given
     * @return list<Receipt>
     */
    public function push(iterable $given): array
    {
        $limit = new TimeLimit($this->timeout);
        $jobs = Build::each(Build::writeJobs($given), Shape::normalize(...));
        $bodies = $this->meta->check($limit, static fn (Limits $limits): array => Build::each(
            $jobs,
            static fn (NormalJob $job): string => WriteEncoding::encode($job, $limits),
        ));
        $receipts = [];
        foreach (self::chunks($bodies) as [$first, $length]) {
            try {
                $some = array_slice($jobs, $first, $length);
                $stored = $this->pushChunk($some, array_slice($bodies, $first, $length), $limit);
            } catch (QueueError | InvalidJob | PartitionMismatch $error) {
                throw $receipts === [] ? $error : new PushedInPart($receipts, count($jobs), $error);
            }
            $receipts = [...$receipts, ...$stored];
            $limit = new TimeLimit($this->timeout);
        }

        return $receipts;
    }

    /**
     * @param list<NormalJob> $jobs
     * @param list<string> $bodies
     * @return list<Receipt>
     */
    private function pushChunk(array $jobs, array $bodies, TimeLimit $limit): array
    {
        $token = Push::newToken();
        $began = TimeLimit::now();
        try {
            return $this->pushOnce($jobs, $bodies, $token, $limit);
        } catch (InvalidJob $error) { // the workers now allow only smaller jobs
            $this->meta->forget();
            throw $error;
        } catch (PartitionMismatch | TooLate) { // nothing was stored: the partitions changed, or a clock was set
            $this->meta->refresh($limit, $began);

            return $this->pushOnce($jobs, $bodies, $token, $limit);
        }
    }

    /**
     * @param list<NormalJob> $jobs
     * @param list<string> $bodies
     * @return list<Receipt>
     */
    private function pushOnce(array $jobs, array $bodies, string $token, TimeLimit $limit): array
    {
        $meta = $this->meta->current();
        $entries = [];
        foreach ($jobs as $position => $job) {
            $partition = Partition::of($job->userId(), $meta->partitions);
            $version = WriteEncoding::version($job, $meta->limits);
            $entries[] = [$partition, $version, (string) $job->userId(), $bodies[$position]];
        }

        return $entries === [] ? [] : $this->push->store($entries, $token, $meta, $this->meta->clock, $limit);
    }

    /**
     * Return the start and the length of chunks of at most 256 jobs and 1 MiB, or of one job.
     *
     * @param list<string> $bodies
     * @return list<array{int, int}>
     */
    private static function chunks(array $bodies): array
    {
        $chunks = [];
        $first = $size = 0;
        foreach ($bodies as $position => $body) {
            $isFull = $position - $first === self::MAX_JOBS || $size + strlen($body) > self::MAX_BYTES;
            if ($position > $first && $isFull) {
                $chunks[] = [$first, $position - $first];
                [$first, $size] = [$position, 0];
            }
            $size += strlen($body);
        }

        return $bodies === [] ? [] : [...$chunks, [$first, count($bodies) - $first]];
    }
}
