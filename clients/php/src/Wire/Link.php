<?php

declare(strict_types=1);

namespace MemoryWorker\Wire;

use MemoryWorker\Exception\ConfigurationError;
use MemoryWorker\Exception\MemoryWorkerError;
use MemoryWorker\Redis\BrokenConnection;
use MemoryWorker\Redis\Connection;
use MemoryWorker\Redis\ErrorReply;

/**
 * @internal Run commands and scripts in a time limit, and leave a server that is gone or no longer the primary.
 *
 * Every step may run twice without harm, so it is repeated once over a new connection.
 */
final class Link
{
    /** How long a reply to a blocking command may be late, in seconds. */
    public const LATE_REPLY_S = 1.0;

    public function __construct(private readonly Connection $connection)
    {
    }

    /**
     * Run the commands of ``$step``. If their connection breaks or leads to a wrong server, reconnect and run them
     * again.
     *
     * @template T
     * @param callable(): T $step it may run twice
     * @return T
     *
     * @throws MemoryWorkerError
     */
    public function run(TimeLimit $limit, callable $step): mixed
    {
        return $limit->run(function () use ($limit, $step): mixed {
            try {
                return $this->attempt($step);
            } catch (BrokenConnection | ErrorReply $error) {
                if (!Failures::isWrongServer($error)) {
                    throw Failures::map($error);
                }
            }
            $limit->check($error);
            try {
                return $this->attempt($step);
            } catch (BrokenConnection | ErrorReply $again) {
                throw Failures::map($again);
            }
        });
    }

    /**
     * Send a command. Only inside of `run`.
     *
     * @param non-empty-list<string> $words
     */
    public function command(array $words, TimeLimit $limit): mixed
    {
        return $this->send($words, $limit->check());
    }

    /**
     * Send a command that blocks for ``$seconds`` at most. Only inside of `run`.
     *
     * @param non-empty-list<string> $words
     */
    public function block(array $words, float $seconds): mixed
    {
        return $this->send($words, $seconds + self::LATE_REPLY_S);
    }

    /**
     * Run a script in one round trip, or in two if Redis has not loaded it yet. Only inside of `run`.
     *
     * @param list<string> $keys
     * @param list<string> $args
     */
    public function script(Script $script, array $keys, array $args, TimeLimit $limit): mixed
    {
        $words = [(string) count($keys), ...$keys, ...$args];
        try {
            return $this->command(['EVALSHA', $script->digest(), ...$words], $limit);
        } catch (ErrorReply $error) {
            if ($error->word() !== 'NOSCRIPT') {
                throw $error;
            }
        }

        return $this->command(['EVAL', $script->source(), ...$words], $limit);
    }

    /** @param non-empty-list<string> $words none of them has a status as its reply, which phpredis gives as true */
    private function send(array $words, float $timeout): mixed
    {
        $reply = $this->connection->command($words, $timeout);
        if ($reply === true || $reply === 'QUEUED') {
            throw new ConfigurationError('the Redis client is inside of a transaction, which runs the command later');
        }

        return $reply;
    }

    /**
     * Run the commands of ``$step``. Unless Redis has answered, leave the connection, which may still get a late reply.
     *
     * @template T
     * @param callable(): T $step
     * @return T
     */
    private function attempt(callable $step): mixed
    {
        try {
            return $step();
        } catch (ErrorReply $error) {
            if (Failures::isWrongServer($error)) {
                $this->connection->reconnect();
            }
            throw $error;
        } catch (MemoryWorkerError $error) {
            throw $error;
        } catch (\Throwable $error) { // it broke, or a signal handler has thrown something while a command waited
            $this->connection->reconnect();
            throw $error;
        }
    }
}
