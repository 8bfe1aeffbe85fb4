<?php

declare(strict_types=1);

namespace MemoryWorker;

/**
 * What became of a job. ``id`` is the place of the outcome among all outcomes.
 *
 * ``applied``: the job was applied. It is reported if the job has ``notify``, and for each replay that was not forced.
 * ``dead``: it became a dead letter, for this reason. It is always reported. ``dropped``: an operator has deleted its
 * dead letter, or (reason ``purged``) a later purge of its user has made it needless. ``replayed``: an operator has
 * pushed its dead letter again. ``replay`` is the new receipt, and the outcome of the replay follows.
 *
 * ``position`` is the id under which the job was first pushed, which replays that were not forced keep. ``at`` is the
 * time in unix milliseconds. ``op`` and ``userId`` are null if the job could not be decoded. ``kind`` and ``namespace``
 * are null for all kinds and for none or all namespaces. ``gap`` means that outcomes between the last one that was read
 * and this one may be lost.
 */
final class Outcome
{
    public function __construct(
        public readonly string $id,
        public readonly Receipt $receipt,
        public readonly string $position,
        public readonly string $outcome,
        public readonly int $at,
        public readonly ?string $op = null,
        public readonly int|string|null $userId = null,
        public readonly ?string $kind = null,
        public readonly ?string $namespace = null,
        public readonly string $reason = '',
        public readonly string $detail = '',
        public readonly ?string $ref = null,
        public readonly ?Receipt $replay = null,
        public readonly bool $gap = false,
    ) {
    }
}
