<?php

declare(strict_types=1);

namespace MemoryWorker\Wire;

use MemoryWorker\Contract\Text;
use MemoryWorker\Exception\MemoryWorkerError;

/** @internal Whether the queue is paused, for an error. */
final class Pause
{
    /** Return the pause of the queue, or an empty string if there is none, or it may not be read. */
    public static function shown(Link $link, Keys $keys, TimeLimit $limit): string
    {
        $words = ['HMGET', $keys->paused, 'since', 'by', 'reason'];
        try {
            $found = $link->run($limit, fn (): array => Decoded::exactly(3, $link->command($words, $limit)));
        } catch (MemoryWorkerError) {
            return '';
        }
        [$since, $by, $reason] = array_map(Text::scrub(...), Decoded::texts($found));
        if ($since . $by . $reason === '') {
            return '';
        }
        $at = gmdate('Y-m-d H:i:s', intdiv((int) $since, 1000));

        return "; the queue is paused since $at UTC" . ($by === '' ? '' : " by $by") . ($reason === '' ? '' : ": $reason");
    }
}
