<?php

declare(strict_types=1);

namespace MemoryWorker\Redis;

/** @internal Where a client of phpredis or Relay is connected, with its password and its database. */
final class Address
{
    private function __construct(
        private readonly string $host,
        private readonly int $port,
        private readonly float $timeout,
        private readonly float $readTimeout,
        private readonly mixed $auth,
        private readonly int $database,
    ) {
    }

    /** Return the address, or null if the client is not connected. */
    public static function of(\Redis|\Relay\Relay $client): ?self
    {
        $host = $client->getHost();

        return !is_string($host) || $host === '' ? null : new self(
            $host,
            (int) $client->getPort(),
            (float) $client->getTimeout(),
            (float) $client->getReadTimeout(),
            $client->getAuth(),
            (int) $client->getDbNum(),
        );
    }

    /** Connect a client that has no connection any more. */
    public function connect(\Redis|\Relay\Relay $client): void
    {
        @$client->connect($this->host, $this->port, $this->timeout, null, 0, $this->readTimeout);
        if ($this->auth !== null && $this->auth !== false) {
            $client->auth($this->auth);
        }
        if ($this->database > 0) {
            $client->select($this->database);
        }
    }
}
