<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

/** @internal The UUID under which Qdrant stores a point: the UUIDv5 of its id. */
final class PrimaryId
{
    private const NAMESPACE = '6ba7b8109dad11d180b400c04fd430c8';

    public static function of(string $pointId): string
    {
        $digest = substr(sha1(hex2bin(self::NAMESPACE) . $pointId, true), 0, 16);
        $digest[6] = chr(ord($digest[6]) & 0x0F | 0x50);
        $digest[8] = chr(ord($digest[8]) & 0x3F | 0x80);

        return vsprintf('%s%s-%s-%s-%s-%s%s%s', str_split(bin2hex($digest), 4));
    }
}
