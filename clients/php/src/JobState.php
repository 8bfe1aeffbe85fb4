<?php

declare(strict_types=1);

namespace MemoryWorker;

/**
 * The state of the job of a receipt.
 *
 * ``waiting``: it has not been applied yet. ``applied``: it has been applied, or it is a replay or a dead letter that a
 * later purge of its user has made needless. ``dead``: it can never be applied, for this reason. The reason ``dropped``
 * means that an operator has deleted its dead letter. ``unknown``: Redis no longer knows, because it has lost data
 * since the push, or because many later dead letters were dropped or replayed. ``ref`` is that of a dead letter. If the
 * dead letter was replayed, ``replay`` is the receipt of its last replay, and the state is that of this replay.
 */
final class JobState
{
    /**
     * @param 'waiting'|'applied'|'dead'|'unknown' $state
     */
    public function __construct(
        public readonly Receipt $receipt,
        public readonly string $state,
        public readonly string $reason = '',
        public readonly string $detail = '',
        public readonly ?string $ref = null,
        public readonly ?Receipt $replay = null,
    ) {
    }
}
