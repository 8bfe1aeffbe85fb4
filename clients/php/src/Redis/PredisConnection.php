<?php

declare(strict_types=1);

namespace MemoryWorker\Redis;

use MemoryWorker\Exception\ConfigurationError;
use MemoryWorker\Exception\MemoryWorkerError;
use Predis\Client;
use Predis\Connection\NodeConnectionInterface;
use Predis\PredisException;
use Predis\Response\ServerException;

/**
 * A connection by Predis 1.1 to 3.
 *
 * Commands are raw. So a prefix and other options of the client have no effect on them. The read timeout of the
 * connection is set for each command, and set back afterwards.
 */
final class PredisConnection implements Connection
{
    /** @var ClientSource<Client> */
    private readonly ClientSource $source;

    /**
     * ``$client`` is a client of one server, or a function that makes one.
     *
     * The function is called at the first use, and at each reconnect. So it can ask Sentinel for the primary. A ready
     * client reconnects to the same address.
     *
     * @param Client|\Closure(): Client $client
     */
    public function __construct(object $client)
    {
        $this->source = new ClientSource($client);
    }

    public function command(array $words, float $timeout): mixed
    {
        try {
            $client = $this->source->client(self::checked(...));
            $stream = self::stream($client->getConnection());
            self::setTimeout($stream, $timeout);
            try {
                $reply = @$client->executeRaw($words, $isError); // without the warnings of a stream
            } finally {
                self::restore($stream, $client->getConnection());
            }
        } catch (BrokenConnection | MemoryWorkerError $error) {
            throw $error;
        } catch (ServerException $failure) { // of the login, when it connects
            throw new ErrorReply($failure->getMessage(), 0, $failure);
        } catch (PredisException | \RuntimeException $failure) { // Predis 3.0 throws the latter for a stream at its end
            throw BrokenConnection::because($failure);
        }
        if ($isError === true) {
            throw new ErrorReply(is_string($reply) ? $reply : 'ERR');
        }

        return $reply;
    }

    public function reconnect(): void
    {
        $client = $this->source->current();
        if ($this->source->makesClients()) {
            $this->source->forget();
        }
        try {
            if ($client instanceof Client) {
                $client->disconnect();
            }
        } catch (\Exception) {
        }
    }

    private static function checked(object $client): Client
    {
        if (!$client instanceof Client) {
            throw new ConfigurationError(sprintf('expected a Predis\Client, got %s', $client::class));
        }
        if (!$client->getConnection() instanceof NodeConnectionInterface) {
            throw new ConfigurationError(
                'the Predis client has several servers: give one, or a function that finds the primary by Sentinel',
            );
        }

        return $client;
    }

    /** @return resource the stream of a connection, which is opened if it is closed */
    private static function stream(mixed $connection)
    {
        $found = $connection instanceof NodeConnectionInterface ? $connection->getResource() : null;
        // Predis 3 has the stream inside of an object.
        foreach (is_object($found) ? (array) $found : [$found] as $value) {
            $type = is_resource($value) ? get_resource_type($value) : '';
            if (is_resource($value) && $type === 'stream') {
                return $value;
            }
            if ($type === 'persistent stream') { // it may have the reply to a command of an earlier request
                throw new ConfigurationError('the connection of Predis is persistent: give one that is not');
            }
        }
        throw new ConfigurationError('this kind of connection of Predis has no stream: use its StreamConnection');
    }

    /** @param resource $stream */
    private static function restore($stream, mixed $connection): void
    {
        if (!is_resource($stream) || !$connection instanceof NodeConnectionInterface) {
            return;
        }
        $parameters = $connection->getParameters();
        $given = $parameters->read_write_timeout ?? ini_get('default_socket_timeout');
        $seconds = is_numeric($given) ? (float) $given : 60.0;
        $seconds > 0 ? self::setTimeout($stream, $seconds) : stream_set_timeout($stream, -1); // -1: without end
    }

    /** @param resource $stream */
    private static function setTimeout($stream, float $seconds): void
    {
        stream_set_timeout($stream, (int) $seconds, (int) (fmod($seconds, 1.0) * 1e6));
    }
}
