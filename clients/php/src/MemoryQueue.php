<?php

declare(strict_types=1);

namespace MemoryWorker;

use MemoryWorker\Contract\EntryId;
use MemoryWorker\Contract\ListType;
use MemoryWorker\Contract\Text;
use MemoryWorker\Exception\ConfigurationError;
use MemoryWorker\Exception\InvalidJob;
use MemoryWorker\Job\Timeout;
use MemoryWorker\Redis\Connection;
use MemoryWorker\Result\QueueReport;
use MemoryWorker\Wire\Decoded;
use MemoryWorker\Wire\Keys;
use MemoryWorker\Wire\Link;
use MemoryWorker\Wire\LiveMeta;
use MemoryWorker\Wire\Outcomes;
use MemoryWorker\Wire\Producer;
use MemoryWorker\Wire\Reader;
use MemoryWorker\Wire\ReplyReader;
use MemoryWorker\Wire\States;
use MemoryWorker\Wire\TimeLimit;

/**
 * The queue in Redis.
 *
 * Make one for the whole process and keep it, also in a long-lived process. It connects at the first use.
 */
final class MemoryQueue implements Queue
{
    use WritesByPushing;
    use ReadsByCalling;

    private const MAX_WAIT_S = 3600.0;
    private const MAX_RECEIPTS = 1000;
    private const MAX_OUTCOMES = 1000;

    private readonly Link $link;
    private readonly Keys $keys;
    private readonly Producer $producer;
    private readonly Reader $reader;

    /**
     * ``$prefix`` is the workers' ``QUEUE_PREFIX``. ``$timeout`` bounds each round trip of a push, in seconds. A push
     * that reaches Redis later is refused, so your next push comes after it.
     *
     * @throws ConfigurationError if ``$timeout`` is not more than 0
     */
    public function __construct(Connection $connection, string $prefix = 'mw', private readonly float $timeout = 5.0)
    {
        if (!($timeout > 0 && $timeout <= self::MAX_WAIT_S)) {
            throw new ConfigurationError('timeout: must be more than 0, and at most 3600 seconds');
        }
        $this->link = new Link($connection);
        $this->keys = new Keys($prefix);
        $meta = new LiveMeta($this->link, $this->keys);
        $this->producer = new Producer($this->link, $this->keys, $meta, $timeout);
        $this->reader = new Reader($this->link, $this->keys, $meta);
    }

    public function pushMany(iterable $jobs): array
    {
        return $this->producer->push($jobs);
    }

    public function callMany(array $jobs): array
    {
        return $this->reader->callMany($jobs);
    }

    public function waitApplied(Receipt $receipt, int|float $timeout = 5.0): void
    {
        Receipt::parse((string) $receipt);
        $states = new States($this->link, $this->keys);
        $states->await($receipt, Timeout::seconds($timeout, self::MAX_WAIT_S));
    }

    public function states(iterable $receipts): array
    {
        $found = [];
        foreach (ListType::items('receipts', $receipts, 'receipts', self::MAX_RECEIPTS) as $position => $receipt) {
            if (!$receipt instanceof Receipt) {
                $problem = 'expected a Receipt, got %s; Receipt::parse reads one from its text';
                throw new InvalidJob("receipts[$position]", sprintf($problem, Text::typeWord($receipt)));
            }
            $found[] = Receipt::parse((string) $receipt, "receipts[$position]");
        }
        if (count($found) > self::MAX_RECEIPTS) {
            throw new InvalidJob('receipts', sprintf('at most %s are allowed', number_format(self::MAX_RECEIPTS)));
        }

        return (new States($this->link, $this->keys))->of($found, new TimeLimit($this->timeout));
    }

    public function outcomes(?string $after = null, int $count = 100, int|float $timeout = 0.0): array
    {
        if ($after !== null && !EntryId::isValid($after)) {
            throw new InvalidJob('after', 'expected the id of an outcome, got ' . Text::excerpt($after));
        }
        if ($count < 1 || $count > self::MAX_OUTCOMES) {
            $problem = 'expected an integer from 1 to %s, got %d';
            throw new InvalidJob('count', sprintf($problem, number_format(self::MAX_OUTCOMES), $count));
        }
        $seconds = $timeout == 0 ? 0.0 : Timeout::seconds($timeout, self::MAX_WAIT_S);
        $outcomes = new Outcomes($this->link, $this->keys);

        return $outcomes->behind($after ?? Outcomes::FIRST, $count, $seconds, $this->timeout);
    }

    public function status(): ?QueueReport
    {
        $limit = new TimeLimit($this->timeout);
        $found = $this->link->run($limit, fn (): mixed => $this->link->command(['GET', $this->keys->stats], $limit));

        return ReplyReader::report(Decoded::text($found));
    }
}
