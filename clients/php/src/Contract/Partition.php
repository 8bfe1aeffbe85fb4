<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

/** @internal The partition of a user. */
final class Partition
{
    /** Return the CRC-32 of the user id, modulo ``$partitions``. An integer counts as its decimal digits. */
    public static function of(int|string $userId, int $partitions): int
    {
        $crc = (float) sprintf('%u', crc32((string) $userId)); // on PHP of 32 bits, crc32 may be negative

        return (int) fmod($crc, $partitions);
    }
}
