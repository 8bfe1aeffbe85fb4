<?php

declare(strict_types=1);

namespace MemoryWorker\Redis;

use MemoryWorker\Exception\ConfigurationError;

/**
 * A connection by the extension phpredis 5.3 or newer, or by Relay, which has the same methods.
 *
 * Commands are raw. So ``OPT_PREFIX``, ``OPT_SERIALIZER`` and ``OPT_COMPRESSION`` have no effect on them, and the
 * client may be one that the app uses for other things, too. Its read timeout is set for each command, and set back
 * afterwards.
 */
final class PhpRedisConnection implements Connection
{
    /** These constants have the same values in phpredis and in Relay. Only one of both may be installed. */
    private const OPT_READ_TIMEOUT = 3;
    private const ATOMIC = 0;

    /** @var ClientSource<\Redis|\Relay\Relay> */
    private readonly ClientSource $source;
    /** Where a ready client was connected. A client whose connection is lost does not know it any more. */
    private ?Address $address = null;

    /**
     * ``$client`` is a connected client, or a function that makes one.
     *
     * The function is called at the first use, and at each reconnect. So it can ask Sentinel for the primary, and it
     * has the certificates and the password. A ready client reconnects to the same address with the same user and
     * database. If it needs options for TLS, give a function.
     *
     * @param \Redis|\Relay\Relay|\Closure(): (\Redis|\Relay\Relay) $client
     */
    public function __construct(object $client)
    {
        $this->source = new ClientSource($client);
    }

    public function command(array $words, float $timeout): mixed
    {
        $before = null;
        $client = null;
        try {
            $client = $this->source->client(self::checked(...));
            if ($client->getMode() !== self::ATOMIC) { // it would not send the command yet
                throw new ConfigurationError('the Redis client is inside of a transaction or a pipeline');
            }
            $before = $client->getOption(self::OPT_READ_TIMEOUT);
            $client->setOption(self::OPT_READ_TIMEOUT, $timeout);
            $client->clearLastError();
            $reply = @$client->rawCommand(...$words); // an exception says the same as the warning of a stream
            $error = $client->getLastError();
        } catch (\RedisException | \Relay\Exception $failure) {
            throw self::isErrorReply($failure->getMessage())
                ? new ErrorReply($failure->getMessage(), 0, $failure)
                : BrokenConnection::because($failure);
        } finally {
            if ($client !== null && is_numeric($before)) {
                self::restore($client, (float) $before);
                $this->address = Address::of($client) ?? $this->address;
            }
        }
        if (is_string($error)) {
            throw new ErrorReply($error);
        }

        return $reply === false ? null : $reply;
    }

    public function reconnect(): void
    {
        $client = $this->source->current();
        $this->source->forget();
        if (!$client instanceof \Redis && !$client instanceof \Relay\Relay) {
            return;
        }
        try {
            $address = Address::of($client) ?? $this->address;
            $client->close();
            if (!$this->source->makesClients()) {
                $address?->connect($client);
            }
        } catch (\Exception) {
        }
    }

    private static function checked(object $client): \Redis|\Relay\Relay
    {
        if (!$client instanceof \Redis && !$client instanceof \Relay\Relay) {
            throw new ConfigurationError(sprintf('expected a client of phpredis or Relay, got %s', $client::class));
        }

        return $client;
    }

    private static function restore(\Redis|\Relay\Relay $client, float $readTimeout): void
    {
        try {
            // 0 means PHP's own timeout if it is given to connect, but no time at all if it is set as an option.
            $seconds = $readTimeout === 0.0 ? (float) ini_get('default_socket_timeout') : $readTimeout;
            $client->setOption(self::OPT_READ_TIMEOUT, $seconds);
        } catch (\RedisException | \Relay\Exception) {
        }
    }

    /**
     * Return whether a message is that of Redis, which begins with a word of capitals, and not one of the extension.
     */
    private static function isErrorReply(string $message): bool
    {
        return preg_match('/^-?[A-Z][A-Z0-9_]+( |$)/', $message) === 1;
    }
}
