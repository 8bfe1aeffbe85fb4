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

    /** Enqueue a read job in one round trip. Return its id. */
    public function enqueue(NormalJob $job, TimeLimit $limit): string
    {
        $jobId = "{$this->keys->prefix}:$job->op:" . bin2hex(random_bytes(12));
        $body = MessagePack::map([
            't' => null,
            'f' => $job->op,
            'a' => [$job->toMap()],
            'k' => ['reply_to' => $this->keys->reply($jobId), 'reply_json' => true],
            'et' => 0,
        ]);
        $keys = [$this->keys->search, $this->keys->arqJob($jobId), $this->keys->meta, $this->keys->searchWakeup];
        $args = [$jobId, $body, (string) ($job->integer('timeout_ms') + self::JOB_GRACE_MS)];
        $this->link->run($limit, fn (): mixed => $this->link->script(Script::Call, $keys, $args, $limit));

        return $jobId;
    }

    /**
     * Wait for the next reply to one of these jobs. Return it with the job's key, or null if none arrives within
     * ``$seconds``.
     *
     * @template TKey of array-key
     * @param non-empty-array<TKey, string> $jobIds
     * @return array{TKey, Reply}|null
     */
    public function await(array $jobIds, float $seconds): ?array
    {
        $lists = array_map($this->keys->reply(...), $jobIds);
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
     * @param array<array-key, string> $jobIds
     */
    public function cancel(array $jobIds): void
    {
        $limit = new TimeLimit(self::CANCEL_TIMEOUT_S);
        try {
            foreach ($jobIds as $jobId) {
                $keys = [$this->keys->search, $this->keys->arqJob($jobId), $this->keys->reply($jobId)];
                $this->link->run($limit, fn (): mixed => $this->link->script(Script::Cancel, $keys, [$jobId], $limit));
            }
        } catch (QueueError) {
        }
    }
}
