<?php

declare(strict_types=1);

namespace MemoryWorker\Redis;

/**
 * A connection to one Redis server: all that this library needs of a Redis client.
 *
 * Words are sent as they are, without a prefix or a serializer. Replies are integers, strings (also for status
 * replies), lists and null.
 */
interface Connection
{
    /**
     * Send a command, and wait at most ``$timeout`` seconds for its reply, also if the command blocks.
     *
     * Connect first if there is no connection.
     *
     * @param non-empty-list<string> $words
     *
     * @throws ErrorReply if Redis answers with an error
     * @throws BrokenConnection if there is no answer; it is unknown whether Redis has run the command
     */
    public function command(array $words, float $timeout): mixed;

    /**
     * Close the connection. The next command opens a new one, perhaps to another server.
     *
     * It does not fail. A server that cannot be reached is an error of the next command.
     */
    public function reconnect(): void;
}
