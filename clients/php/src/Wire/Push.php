<?php

declare(strict_types=1);

namespace MemoryWorker\Wire;

use MemoryWorker\Contract\MessagePack;
use MemoryWorker\Exception\NotReplicated;
use MemoryWorker\Receipt;

/** @internal Push jobs: one round trip stores them in their streams and wakes a worker. */
final class Push
{
    private const DRAIN_JOB_LIFE_MS = 24 * 3600 * 1000;
    private const REPLICATION_TIMEOUT_S = 1.0;
    private const CLOCK_SLACK_MS = 1000;

    public function __construct(private readonly Link $link, private readonly Keys $keys)
    {
    }

    /** Return a token by which Redis recognizes copies of one push. */
    public static function newToken(): string
    {
        return bin2hex(random_bytes(12));
    }

    /**
     * Append encoded jobs in this order, each to a stream of its partition. Return their receipts.
     *
     * A user who pushes much at once gets the overflow stream of his partition, and then the receipts have its number.
     * All jobs are stored or none, and carry the trace context of the caller. Redis does not store them later than
     * ``$limit`` allows.
     *
     * @param non-empty-list<array{int, int, string, string}> $jobs partition, contract version, user id and encoded job
     * @return non-empty-list<Receipt>
     */
    public function store(array $jobs, string $token, QueueMeta $meta, Clock $clock, TimeLimit $limit): array
    {
        $work = fn (): array => $this->storeTraced($jobs, $token, $meta, $clock, $limit);

        return Tracing::sending('send', $this->keys->prefix, count($jobs), false, $work);
    }

    /**
     * @param non-empty-list<array{int, int, string, string}> $jobs
     * @return non-empty-list<Receipt>
     */
    private function storeTraced(array $jobs, string $token, QueueMeta $meta, Clock $clock, TimeLimit $limit): array
    {
        [$keys, $args] = $this->arguments($jobs, $token, $meta->partitions);
        $patienceMs = $limit->remaining() * 1000;
        $args = [
            (string) $meta->partitions,
            (string) self::DRAIN_JOB_LIFE_MS,
            sprintf('%.0f', floor($clock->earliestMs() + $patienceMs)),
            (string) ((int) $patienceMs + self::CLOCK_SLACK_MS),
            Tracing::context(),
            ...$args,
        ];
        $stored = $this->link->run($limit, function () use ($jobs, $keys, $args, $meta, $limit): array {
            $stored = Decoded::exactly(count($jobs), $this->link->script(Script::Push, $keys, $args, $limit));
            $this->awaitReplicas($meta->minReplicas);

            return $stored;
        });
        $receipts = array_map(Receipt::parse(...), Decoded::texts($stored));
        if (count($receipts) === 1) {
            Tracing::name((string) $receipts[0]);
        }

        return $receipts !== [] ? $receipts : throw new \LogicException('the script has returned no receipts');
    }

    private function awaitReplicas(int $replicas): void
    {
        if ($replicas === 0) {
            return;
        }
        $words = ['WAIT', (string) $replicas, (string) (int) (self::REPLICATION_TIMEOUT_S * 1000)];
        $reached = (int) Decoded::text($this->link->block($words, self::REPLICATION_TIMEOUT_S));
        if ($reached < $replicas) {
            $problem = 'only %d of %d replicas of Redis confirmed within %g s';
            throw new NotReplicated(sprintf($problem, $reached, $replicas, self::REPLICATION_TIMEOUT_S));
        }
    }

    /**
     * @param non-empty-list<array{int, int, string, string}> $jobs
     * @return array{list<string>, list<string>} the keys, and the arguments about the partitions and the jobs
     */
    private function arguments(array $jobs, string $token, int $partitions): array
    {
        $k = $this->keys;
        $keys = [$k->meta, $k->backlog, $k->drain, $k->drainWakeup, $k->since, $k->pushed($token)];
        $places = $drainJobs = $entries = [];
        foreach ($jobs as [$partition, $version, $userId, $body]) {
            if (!isset($places[$partition])) {
                $jobId = $k->drainJobId($partition);
                $places[$partition] = (string) (count($places) + 1);
                array_push($keys, $k->stream($partition), $k->arqJob($jobId));
                $overflow = $partitions + $partition;
                array_push($drainJobs, (string) $partition, $jobId, self::drainJob($partition), self::drainJob($overflow));
            }
            array_push($entries, $places[$partition], (string) $version, $userId, $body);
        }

        return [$keys, [(string) count($places), ...$drainJobs, ...$entries]];
    }

    private static function drainJob(int $partition): string
    {
        return MessagePack::map(['t' => null, 'f' => 'drain', 'a' => [$partition], 'k' => new \stdClass(), 'et' => 0]);
    }
}
