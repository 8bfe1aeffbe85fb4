<?php

declare(strict_types=1);

namespace MemoryWorker\Examples;

use MemoryWorker\Exception\InvalidJob;
use MemoryWorker\Result\CollectionInfo;
use MemoryWorker\Result\FileInfo;
use MemoryWorker\Result\Hit;
use MemoryWorker\Result\Point;
use MemoryWorker\Result\UserStats;

/** What the library returns, as the arrays of the app. */
final class Rows
{
    /** The user of `mem_1730_12345` or `doc_1730_88_0`. */
    public static function owner(string $pointId): int
    {
        if (preg_match('/^(?:mem|doc)_(\d+)_/', $pointId, $match) !== 1) {
            throw new InvalidJob('point_id', "expected mem_USER_ or doc_USER_, got $pointId");
        }

        return (int) $match[1];
    }

    /** @return array{id: string, score: float, payload: array<array-key, mixed>} */
    public static function found(Hit $hit): array
    {
        return ['id' => $hit->pointId, 'score' => $hit->score, 'payload' => $hit->payload];
    }

    /** @return array{id: string, payload: array<array-key, mixed>} */
    public static function memory(Point $point): array
    {
        return ['id' => $point->pointId, 'payload' => $point->payload];
    }

    /** @return array{id: string, vector: list<float>, payload: array<array-key, mixed>} */
    public static function document(Point $point): array
    {
        /** @var list<float> $numbers */
        $numbers = array_values(unpack('g*', (string) $point->vector) ?: []);

        return ['id' => $point->pointId, 'vector' => $numbers, 'payload' => $point->payload];
    }

    /**
     * @param list<FileInfo> $files
     * @return array<int, array{chunks: int, groupKey: ?string}>
     */
    public static function byId(array $files): array
    {
        $found = [];
        foreach ($files as $file) {
            $found[$file->fileId] = ['chunks' => $file->chunks, 'groupKey' => $file->groupKey];
        }

        return $found;
    }

    /** @return array{chunks: int, files: array<array-key, int>, groups: array<array-key, int>} */
    public static function stats(UserStats $stats): array
    {
        $groups = array_column($stats->by['group_key'], 'count', 'value');
        if (($without = $stats->absent['group_key'] ?? 0) > 0) {
            $groups['default'] = ($groups['default'] ?? 0) + $without;
        }

        return [
            'chunks' => $stats->points,
            'files' => array_column($stats->by['file_id'], 'count', 'value'),
            'groups' => $groups,
        ];
    }

    /** @return array{exists: bool, dimension: ?int, points: int, distance: ?string} */
    public static function collection(?CollectionInfo $found): array
    {
        return [
            'exists' => $found !== null,
            'dimension' => $found?->dimension,
            'points' => $found->points ?? 0,
            'distance' => $found?->distance,
        ];
    }
}
