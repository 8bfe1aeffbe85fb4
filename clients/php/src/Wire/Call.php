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

    /** Wait for the reply to a job. Return null if none arrives within ``$seconds``. */
    public function await(string $jobId, float $seconds): ?Reply
    {
        $limit = new TimeLimit($seconds + Link::LATE_REPLY_S);
        $found = $this->link->run($limit, function () use ($jobId, $limit): array {
            $left = max(0.001, $limit->check() - Link::LATE_REPLY_S);

            $found = $this->link->block(['BLPOP', $this->keys->reply($jobId), sprintf('%.3F', $left)], $left);

            return $found === null || $found === [] ? [] : Decoded::exactly(2, $found);
        });
        $body = $found[1] ?? null;
        if (!is_string($body)) {
            return null;
        }
        try {
            return ReplyReader::read($body);
        } catch (\JsonException | \UnexpectedValueException $error) {
            throw new QueueError("the reply cannot be read: {$error->getMessage()}", 0, $error);
        }
    }

    /** Take back a job whose caller has stopped waiting. If this fails, the job and its reply expire. */
    public function cancel(string $jobId): void
    {
        $limit = new TimeLimit(self::CANCEL_TIMEOUT_S);
        $keys = [$this->keys->search, $this->keys->arqJob($jobId), $this->keys->reply($jobId)];
        try {
            $this->link->run($limit, fn (): mixed => $this->link->script(Script::Cancel, $keys, [$jobId], $limit));
        } catch (QueueError) {
        }
    }
}
