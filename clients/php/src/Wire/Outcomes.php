<?php

declare(strict_types=1);

namespace MemoryWorker\Wire;

use MemoryWorker\Contract\Text;
use MemoryWorker\Outcome;
use MemoryWorker\Receipt;

/** @internal Read the outcomes of jobs, which workers write. */
final class Outcomes
{
    /** The id before all outcomes. */
    public const FIRST = '0-0';

    public function __construct(private readonly Link $link, private readonly Keys $keys)
    {
    }

    /**
     * Return up to ``$count`` outcomes behind the id ``$after``, oldest first. Wait for one for ``$seconds``.
     *
     * @return list<Outcome>
     */
    public function behind(string $after, int $count, float $seconds, float $patience): array
    {
        $limit = new TimeLimit($seconds + $patience + Link::LATE_REPLY_S);
        $end = TimeLimit::now() + $seconds;
        [$answer, $lastRead] = $this->link->run($limit, function () use ($after, $count, $end, $limit): array {
            $left = $end - TimeLimit::now();
            $block = $left >= 0.001 ? ['BLOCK', (string) max(1, (int) ($left * 1000))] : [];
            $words = ['XREAD', 'COUNT', (string) $count, ...$block, 'STREAMS', $this->keys->outcomes, $after];

            return [
                $this->link->command($words, $limit),
                $this->link->command(['XRANGE', $this->keys->outcomes, $after, $after], $limit),
            ];
        });
        $hasGap = $after !== self::FIRST && Decoded::list($lastRead) === [];
        $found = [];
        foreach (self::entries($answer) as $position => $entry) {
            $id = Decoded::text($entry[0] ?? '');
            $found[] = self::outcome($id, Decoded::fields($entry[1] ?? []), $hasGap && $position === 0);
        }

        return $found;
    }

    /**
     * Return the entries of the one stream in an answer: a list of pairs, or by the protocol RESP3 a map.
     *
     * @return list<list<mixed>>
     */
    private static function entries(mixed $answer): array
    {
        if (!is_array($answer) || $answer === []) {
            return [];
        }
        $streams = array_is_list($answer) ? (Decoded::list($answer[0])[1] ?? []) : reset($answer);

        return array_map(Decoded::list(...), Decoded::list($streams));
    }

    /** @param array<string, string> $fields */
    private static function outcome(string $id, array $fields, bool $hasGap): Outcome
    {
        $text = static fn (string $name): string => Text::scrub($fields[$name] ?? '');
        $optional = static fn (string $name): ?string => $text($name) === '' ? null : $text($name);
        $userId = $optional('user_id');
        $replay = $optional('replay');

        return new Outcome(
            id: $id,
            receipt: Receipt::parse($text('receipt')),
            position: $text('position'),
            outcome: $text('outcome'),
            at: (int) $text('at'),
            op: $optional('op'),
            userId: $userId !== null && preg_match('/^[0-9]+$/D', $userId) === 1 ? (int) $userId : $userId,
            kind: $optional('kind'),
            namespace: $optional('namespace'),
            reason: $text('reason'),
            detail: $text('detail'),
            ref: $optional('ref'),
            replay: $replay === null ? null : Receipt::parse($replay),
            gap: $hasGap,
        );
    }
}
