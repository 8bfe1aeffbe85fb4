<?php

declare(strict_types=1);

namespace MemoryWorker\Job;

use MemoryWorker\Absent;

/** @internal What the arguments of a job say, and what they leave out. */
final class Given
{
    /**
     * Return the fields that are given.
     *
     * @param array<string, mixed> $fields
     * @return array<string, mixed>
     */
    public static function only(array $fields): array
    {
        return array_filter($fields, static fn (mixed $value): bool => $value !== Absent::Field);
    }

    /** Return the kind of a read: the given one, or the one that has the narrowing fields. */
    public static function kindOfRead(
        string|Absent|null $kind,
        string|Absent|null $groupKey,
        int|Absent|null $fileId,
        string $by = '',
    ): ?string {
        if ($kind !== Absent::Field) {
            return $kind;
        }
        $isDocument = self::any($groupKey, $fileId) || in_array($by, ['group_key', 'file_id'], true);

        return $isDocument ? 'document' : 'memory';
    }

    /** Return the kind of a purge: the given one, the one that has the narrowing fields, or none. */
    public static function kindOfPurge(Purge $purge): string|Absent|null
    {
        if ($purge->kind !== Absent::Field) {
            return $purge->kind;
        }
        if (self::any($purge->namespace, $purge->category)) {
            return 'memory';
        }

        return self::any($purge->groupKey, $purge->fileId) ? 'document' : Absent::Field;
    }

    /** Return the kind of a patch: the given one, or the one that has its target. */
    public static function kindOfPatch(Patch $patch): ?string
    {
        if ($patch->kind !== Absent::Field) {
            return $patch->kind;
        }
        $isDocument = !self::any($patch->category) && self::any($patch->groupKey, $patch->fileId);

        return $isDocument ? 'document' : 'memory';
    }

    private static function any(mixed ...$values): bool
    {
        foreach ($values as $value) {
            if ($value !== Absent::Field) {
                return true;
            }
        }

        return false;
    }
}
