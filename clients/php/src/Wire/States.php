<?php

declare(strict_types=1);

namespace MemoryWorker\Wire;

use MemoryWorker\Contract\EntryId;
use MemoryWorker\Contract\Text;
use MemoryWorker\Exception\DeadLettered;
use MemoryWorker\Exception\NotApplied;
use MemoryWorker\Exception\UnknownReceipt;
use MemoryWorker\JobState;
use MemoryWorker\Receipt;

/** @internal What became of pushed jobs: their states by their receipts, and waiting until a job was applied. */
final class States
{
    /** Receipts in one script, so that it does not block Redis for long if all of them have large dead letters. */
    private const RECEIPTS_AT_ONCE = 100;

    public function __construct(private readonly Link $link, private readonly Keys $keys)
    {
    }

    /**
     * Return the states of the jobs of ``$receipts``, in this order.
     *
     * @param list<Receipt> $receipts
     * @return list<JobState>
     */
    public function of(array $receipts, TimeLimit $limit): array
    {
        $found = [];
        foreach (array_chunk($receipts, self::RECEIPTS_AT_ONCE) as $some) {
            array_push($found, ...$this->lookUp($some, $limit));
        }

        return $this->withReplays($found, $limit);
    }

    /** Wait until the job of ``$receipt`` has been applied. This does not poll. */
    public function await(Receipt $receipt, float $seconds): void
    {
        $limit = new TimeLimit($seconds + Link::LATE_REPLY_S);
        $isApplied = $limit->run(function () use ($receipt, $limit): bool {
            while (true) {
                $state = $this->of([$receipt], $limit)[0];
                if (self::isApplied($state)) {
                    return true;
                }
                $left = $limit->remaining() - Link::LATE_REPLY_S;
                if ($left <= 0) {
                    return false;
                }
                $this->awaitMark($state->replay ?? $receipt, $left, $limit);
            }
        });
        if (!$isApplied) {
            $waited = Text::general($seconds);
            $paused = Pause::shown($this->link, $this->keys, $limit);
            throw new NotApplied("job $receipt was not applied within $waited s; it is still queued$paused");
        }
    }

    /** Wait until the entry of ``$receipt`` has left its stream, or until the time is over. */
    private function awaitMark(Receipt $receipt, float $seconds, TimeLimit $limit): void
    {
        $key = $this->keys->applied($receipt->partition);
        $behind = EntryId::before($receipt->entryId);
        $words = ['XREAD', 'BLOCK', (string) (int) ceil($seconds * 1000), 'STREAMS', $key, $behind];
        $this->link->run($limit, fn (): mixed => $this->link->block($words, $seconds));
    }

    /** Return whether a job has been applied. Throw if it never will be. */
    private static function isApplied(JobState $state): bool
    {
        if ($state->state === 'dead') {
            throw new DeadLettered((string) ($state->replay ?? $state->receipt), $state->reason, $state->detail);
        }
        if ($state->state === 'unknown') {
            throw new UnknownReceipt("Redis has lost data about job $state->receipt, so its state is unknown");
        }

        return $state->state === 'applied';
    }

    /**
     * Return ``$found`` with the states of the replays of dead letters.
     *
     * @param list<JobState> $found
     * @return list<JobState>
     */
    private function withReplays(array $found, TimeLimit $limit): array
    {
        $replays = array_values(array_filter(array_map(static fn (JobState $one): ?Receipt => $one->replay, $found)));
        if ($replays === []) {
            return $found;
        }
        $last = $this->of($replays, $limit);
        $followed = [];
        foreach ($found as $one) {
            $state = $one->replay === null ? null : array_shift($last);
            $followed[] = $state === null ? $one : new JobState(
                $one->receipt,
                $state->state,
                $state->reason,
                $state->detail,
                $state->ref,
                $state->replay ?? $one->replay,
            );
        }

        return $followed;
    }

    /**
     * @param list<Receipt> $receipts
     * @return list<JobState>
     */
    private function lookUp(array $receipts, TimeLimit $limit): array
    {
        $k = $this->keys;
        $keys = [$k->since];
        $places = $wanted = [];
        foreach ($receipts as $receipt) {
            $partition = $receipt->partition;
            if (!isset($places[$partition])) {
                $places[$partition] = count($places) + 1;
                array_push($keys, $k->applied($partition), $k->dead($partition), $k->removed($partition));
            }
            array_push($wanted, (string) $places[$partition], $receipt->entryId, EntryId::padded($receipt->entryId));
        }
        $args = [(string) count($places), ...array_map(strval(...), array_keys($places)), ...$wanted];
        $answer = $this->link->run($limit, fn (): array => Decoded::exactly(
            3,
            $this->link->script(Script::States, $keys, $args, $limit),
        ));
        [$epoch, $partitions, $records] = $answer;
        $states = [];
        foreach ($receipts as $position => $receipt) {
            $partition = Decoded::texts(Decoded::list($partitions)[$places[$receipt->partition] - 1] ?? []) + ['', ''];
            $record = Decoded::texts(Decoded::list($records)[$position] ?? []);
            $states[] = self::state($receipt, $record, Decoded::text($epoch), $partition[0], $partition[1]);
        }

        return $states;
    }

    /** Return the receipt of a replay. ``$replay`` is it, or only its id if it is in the same partition. */
    private static function replay(Receipt $receipt, string $replay): Receipt
    {
        return str_contains($replay, '/') ? Receipt::parse($replay) : new Receipt($receipt->partition, $replay);
    }

    /**
     * Return the state of a job. The other arguments are what ``states.lua`` returns.
     *
     * @param list<string> $record
     */
    private static function state(
        Receipt $receipt,
        array $record,
        string $epoch,
        string $mark,
        string $knownFrom,
    ): JobState {
        $record = array_map(Text::scrub(...), $record) + ['', '', '', ''];
        if ($record[0] === 'dead') {
            return new JobState($receipt, 'dead', $record[1], $record[2], $record[3] === '' ? null : $record[3]);
        }
        if ($record[0] === 'removed') {
            return $record[1] === ''
                ? new JobState($receipt, 'dead', 'dropped', 'its dead letter was deleted')
                : new JobState($receipt, 'waiting', replay: self::replay($receipt, $record[1]));
        }
        $pushedAt = EntryId::pad(EntryId::milliseconds($receipt->entryId));
        $isKnown = static fn (string $from): bool => strcmp($pushedAt, EntryId::pad($from)) >= 0;
        if ($epoch === '' || !$isKnown($epoch) || !$isKnown($knownFrom)) {
            return new JobState($receipt, 'unknown');
        }
        $isApplied = $mark !== '' && strcmp(EntryId::padded($mark), EntryId::padded($receipt->entryId)) >= 0;

        return new JobState($receipt, $isApplied ? 'applied' : 'waiting');
    }
}
