<?php

declare(strict_types=1);

namespace MemoryWorker\Wire;

use MemoryWorker\Exception\InvalidJob;
use MemoryWorker\Exception\MemoryWorkerError;
use MemoryWorker\Exception\PartitionMismatch;
use MemoryWorker\Exception\QueueError;
use MemoryWorker\Exception\QueueFull;
use MemoryWorker\Exception\QueueOutOfMemory;
use MemoryWorker\Exception\QueueUnavailable;
use MemoryWorker\Exception\TooLate;
use MemoryWorker\Redis\BrokenConnection;
use MemoryWorker\Redis\ErrorReply;

/**
 * @internal Map what Redis answers to the errors of this library. This is the only place that does so.
 *
 * An error of a script begins with a word, as in ``QUEUEFULL jobs 1000``, that decides what it is mapped to.
 */
final class Failures
{
    /** Errors by which a node of a Redis Cluster sends a request elsewhere. It has not executed the request. */
    private const CLUSTER = ['ASK', 'CLUSTERDOWN', 'CROSSSLOT', 'MOVED', 'TRYAGAIN'];
    private const REFUSED = [
        'BUSY', 'DENIED', 'EXECABORT', 'MASTERDOWN', 'MISCONF', 'NOPERM', 'NOREPLICAS', 'READONLY', 'REDIRECT',
        'UNBLOCKED',
    ];
    private const NOT_READY = ['LOADING', 'NOAUTH', 'WRONGPASS'];
    /** Errors of a server that is not, or no longer, the primary, or not yet ready. */
    private const WRONG_SERVER = [
        'CLUSTERDOWN', 'LOADING', 'MASTERDOWN', 'MOVED', 'NOREPLICAS', 'READONLY', 'UNBLOCKED',
    ];
    private const IS_CLUSTER = 'a Redis Cluster needs a prefix with a hash tag, such as {mw}, and a connection that finds '
        . 'the node with its slot; nothing was stored';

    /** Return whether another connection may reach a server that accepts the same request. */
    public static function isWrongServer(BrokenConnection|ErrorReply $error): bool
    {
        return $error instanceof BrokenConnection || in_array($error->word(), self::WRONG_SERVER, true);
    }

    public static function map(BrokenConnection|ErrorReply $error): MemoryWorkerError
    {
        $message = $error->getMessage();
        if ($error instanceof BrokenConnection) {
            return new QueueUnavailable("Redis: $message", 0, $error);
        }
        $words = [...explode(' ', $message), '', ''];
        $text = self::withoutWord($message, $words[0]);

        return match (true) {
            $words[0] === 'PARTITIONS' => new PartitionMismatch((int) $words[1]),
            $words[0] === 'QUEUEFULL' => new QueueFull($words[1], (int) $words[2]),
            $words[0] === 'TOOLARGE' => self::tooLarge((int) $words[1], (int) $words[2]),
            $words[0] === 'TOOLATE' => new TooLate('the push reached Redis too late and was not stored', 0, $error),
            $words[0] === 'OOM' => new QueueOutOfMemory("Redis is full: $text", 0, $error),
            in_array($words[0], self::CLUSTER, true)
                => new QueueUnavailable("Redis refuses: $message (" . self::IS_CLUSTER . ')', 0, $error),
            in_array($words[0], self::REFUSED, true) => new QueueUnavailable("Redis refuses: $message", 0, $error),
            in_array($words[0], self::NOT_READY, true), str_starts_with($text, 'max number of clients')
                => new QueueUnavailable("Redis: $text", 0, $error),
            default => new QueueError("Redis: $text", 0, $error),
        };
    }

    /** Return a message without the first word if it only says that this is an error, or if the rest says the same. */
    private static function withoutWord(string $message, string $word): string
    {
        $isNeedless = in_array($word, ['ERR', 'OOM', ...self::NOT_READY], true);

        return $isNeedless ? ltrim(substr($message, strlen($word))) : $message;
    }

    private static function tooLarge(int $size, int $limit): InvalidJob
    {
        $numbers = [number_format($limit), number_format($size)];

        return new InvalidJob('job', vsprintf('at most %s bytes are allowed, got %s', $numbers));
    }
}
