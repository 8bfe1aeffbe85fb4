<?php

declare(strict_types=1);

namespace MemoryWorker\Wire;

use MemoryWorker\Contract\NormalJob;
use MemoryWorker\Contract\MessagePack;
use MemoryWorker\Exception\QueueError;
use MemoryWorker\Result\Reply;

/** @internal Make a read call: enqueue a read job, and wait for its reply on a list that only this call uses. */
final class Call
{
    private const JOB_GRACE_MS = 1000;
    private const CANCEL_TIMEOUT_S = 0.25;

    public function __construct(private readonly Link $link, private readonly Keys $keys)
    {
    }

    /** Enqueue a read job in one round trip. */
    public function enqueue(NormalJob $job, TimeLimit $limit): SentJob
    {
        $jobId = "{$this->keys->prefix}:$job->op:" . bin2hex(random_bytes(12));
        $trace = Tracing::context();
        $body = MessagePack::map([
            't' => null,
            'f' => $job->op,
            'a' => [$job->toMap()],
            'k' => ['reply_to' => $this->keys->reply($jobId), 'reply_json' => true],
            'et' => 0,
            ...($trace === '' ? [] : ['trace' => $trace]),
        ]);
        $lifeMs = $job->integer('timeout_ms') + self::JOB_GRACE_MS;
        $k = $this->keys;
        $keys = [$k->search, $k->arqJob($jobId), $k->meta, $k->searchWakeup, $k->searchCalls, $k->searchTaker];
        $keys[] = $k->reply($jobId);
        $args = [$jobId, $body, (string) $lifeMs];
        $head = $this->link->run($limit, fn (): mixed => $this->link->script(Script::Call, $keys, $args, $limit));

        return new SentJob($jobId, Decoded::text($head) . $body, $lifeMs);
    }

    /**
     * Wait for the next reply to one of these jobs. Return it with the job's key, or null if none arrives within
     * ``$seconds``.
     *
     * @template TKey of array-key
     * @param non-empty-array<TKey, SentJob> $jobs
     * @return array{TKey, Reply}|null
     */
    public function await(array $jobs, float $seconds): ?array
    {
        $lists = array_map(fn (SentJob $job): string => $this->keys->reply($job->id), $jobs);
        $limit = new TimeLimit($seconds + Link::LATE_REPLY_S);
        $found = $this->link->run($limit, function () use ($lists, $limit): ?array {
            $left = max(0.001, $limit->check() - Link::LATE_REPLY_S);
            $words = ['BLPOP', ...array_values($lists), sprintf('%.3F', $left)];
            $found = $this->link->block($words, $left);
            if ($found === null || $found === []) {
                return null;
            }
            [$list, $body] = Decoded::texts(Decoded::exactly(2, $found));
            foreach ($lists as $key => $one) {
                if ($one === $list) {
                    return [$key, $body];
                }
            }
            throw Decoded::another();
        });
        if ($found === null) {
            return null;
        }
        [$key, $body] = $found;
        try {
            return [$key, ReplyReader::read($body)];
        } catch (\JsonException | \UnexpectedValueException $error) {
            throw new QueueError("the reply cannot be read: {$error->getMessage()}", 0, $error);
        }
    }

    /**
     * Take back jobs whose caller has stopped waiting. If this fails, the jobs and their replies expire.
     *
     * @param array<array-key, SentJob> $jobs
     */
    public function cancel(array $jobs): void
    {
        $limit = new TimeLimit(self::CANCEL_TIMEOUT_S);
        $k = $this->keys;
        try {
            foreach ($jobs as $job) {
                $keys = [$k->search, $k->arqJob($job->id), $k->reply($job->id), $k->searchCalls];
                $args = [$job->id, $job->item, (string) $job->lifeMs];
                $this->link->run($limit, fn (): mixed => $this->link->script(Script::Cancel, $keys, $args, $limit));
            }
        } catch (QueueError) {
        }
    }
}
