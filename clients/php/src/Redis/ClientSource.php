<?php

declare(strict_types=1);

namespace MemoryWorker\Redis;

use MemoryWorker\Contract\Text;
use MemoryWorker\Exception\ConfigurationError;
use MemoryWorker\Exception\MemoryWorkerError;

/**
 * @internal Where a connection gets its client from: a ready client, or a function that makes one.
 *
 * @template T of object
 */
final class ClientSource
{
    /** @var T|null */
    private ?object $client = null;

    /** @param T|\Closure(): T $given */
    public function __construct(private readonly object $given)
    {
    }

    /** Return whether each reconnect makes a new client. */
    public function makesClients(): bool
    {
        return $this->given instanceof \Closure;
    }

    /**
     * Return the client. ``$check`` is called once for each new one.
     *
     * @param callable(object): T $check
     * @return T
     *
     * @throws BrokenConnection if the function throws an exception
     * @throws ConfigurationError if the client cannot be used
     */
    public function client(callable $check): object
    {
        if ($this->client === null) {
            $made = $this->given instanceof \Closure ? self::make($this->given) : $this->given;
            if (!is_object($made)) {
                throw new ConfigurationError('the function must return a Redis client, got ' . Text::typeWord($made));
            }
            $this->client = $check($made);
        }

        return $this->client;
    }

    /** Return the client in use, or null. */
    public function current(): ?object
    {
        return $this->client;
    }

    /** Forget the client, so that the next use makes a new one. */
    public function forget(): void
    {
        $this->client = null;
    }

    private static function make(\Closure $factory): mixed
    {
        try {
            return $factory();
        } catch (MemoryWorkerError $error) {
            throw $error;
        } catch (\Exception $error) { // there is no server, or no primary
            throw BrokenConnection::because($error);
        }
    }
}
