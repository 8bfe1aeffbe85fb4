<?php

declare(strict_types=1);

namespace MemoryWorker\Wire;

use MemoryWorker\Result\CollectionInfo;
use MemoryWorker\Result\FacetCounts;
use MemoryWorker\Result\FacetValue;
use MemoryWorker\Result\FileInfo;
use MemoryWorker\Result\HealthReport;
use MemoryWorker\Result\Hit;
use MemoryWorker\Result\Point;
use MemoryWorker\Result\QueueReport;
use MemoryWorker\Result\ReadError;
use MemoryWorker\Result\Reply;
use MemoryWorker\Result\SearchResult;
use MemoryWorker\Result\UserStats;

/** @internal Read the replies to read jobs, which are JSON. */
final class ReplyReader
{
    /**
     * @throws \JsonException
     * @throws \UnexpectedValueException if the reply has another form
     */
    public static function read(string $json): Reply
    {
        $reply = JsonMap::decode($json);
        $facet = $reply->map('facet');
        $stats = $reply->map('stats');
        $health = $reply->map('health');

        return new Reply(
            error: self::error($reply->map('error')),
            hits: $reply->has('hits') ? array_map(self::hit(...), $reply->maps('hits')) : null,
            results: $reply->has('results') ? array_map(self::result(...), $reply->maps('results')) : null,
            points: $reply->has('points') ? array_map(self::point(...), $reply->maps('points')) : null,
            cursor: $reply->textOrNull('cursor'),
            count: $reply->has('count') ? $reply->integer('count') : null,
            facet: $facet === null ? null : new FacetCounts(
                array_map(self::facetValue(...), $facet->maps('values')),
                $facet->boolean('truncated'),
            ),
            files: $reply->has('files') ? array_map(self::file(...), $reply->maps('files')) : null,
            truncated: $reply->boolean('truncated'),
            stats: $stats === null ? null : self::stats($stats),
            collections: $reply->has('collections')
                ? array_map(self::collection(...), $reply->maps('collections'))
                : null,
            health: $health === null ? null : self::health($health),
            engineMs: self::milliseconds($reply, 'engine_ms'),
            queueMs: self::milliseconds($reply, 'queue_ms'),
            totalMs: self::milliseconds($reply, 'total_ms'),
        );
    }

    private static function milliseconds(JsonMap $reply, string $name): float
    {
        return $reply->has($name) ? $reply->number($name) : 0.0;
    }

    /** Return the state of the queue, or null if this is none that can be read. */
    public static function report(string $json): ?QueueReport
    {
        try {
            return self::queue(JsonMap::decode($json));
        } catch (\JsonException | \UnexpectedValueException) {
            return null;
        }
    }

    private static function error(?JsonMap $error): ?ReadError
    {
        return $error === null ? null : new ReadError($error->text('code'), $error->text('message'));
    }

    private static function hit(JsonMap $hit): Hit
    {
        return new Hit(
            $hit->text('point_id'),
            $hit->number('score'),
            $hit->values('payload'),
            $hit->textOrNull('namespace'),
        );
    }

    private static function result(JsonMap $result): SearchResult
    {
        return new SearchResult(
            $result->has('hits') ? array_map(self::hit(...), $result->maps('hits')) : null,
            self::error($result->map('error')),
        );
    }

    private static function point(JsonMap $point): Point
    {
        $vector = $point->textOrNull('vector');
        $packed = $vector === null ? null : base64_decode($vector, true);
        if ($packed === false) {
            throw new \UnexpectedValueException('a vector is not base64');
        }

        return new Point($point->text('point_id'), $point->values('payload'), $point->textOrNull('namespace'), $packed);
    }

    private static function facetValue(JsonMap $value): FacetValue
    {
        return new FacetValue($value->facetValue('value'), $value->integer('count'));
    }

    private static function file(JsonMap $file): FileInfo
    {
        return new FileInfo($file->integer('file_id'), $file->integer('chunks'), $file->textOrNull('group_key'));
    }

    private static function stats(JsonMap $stats): UserStats
    {
        $by = $absent = [];
        $lists = $stats->map('by');
        foreach ($lists?->names() ?? [] as $name) {
            $by[$name] = array_map(self::facetValue(...), $lists?->maps($name) ?? []);
        }
        $counts = $stats->map('absent');
        foreach ($counts?->names() ?? [] as $name) {
            $absent[$name] = $counts?->integer($name) ?? 0;
        }

        return new UserStats($stats->integer('points'), $by, $absent, $stats->boolean('truncated'));
    }

    private static function collection(JsonMap $info): CollectionInfo
    {
        return new CollectionInfo(
            name: $info->text('name'),
            kind: $info->text('kind'),
            namespace: $info->textOrNull('namespace'),
            status: $info->text('status'),
            points: $info->integer('points'),
            indexedVectors: $info->integer('indexed_vectors'),
            segments: $info->integer('segments'),
            dimension: $info->integer('dimension'),
            payloadIndexes: $info->texts('payload_indexes'),
            indexingHeld: $info->boolean('indexing_held'),
            distance: $info->textOrNull('distance') ?? 'cosine',
            engineVersion: $info->textOrNull('engine_version') ?? '',
        );
    }

    private static function health(JsonMap $health): HealthReport
    {
        $queue = $health->map('queue');

        return new HealthReport(
            $health->text('version'),
            $health->number('engine_ms'),
            $queue === null ? null : self::queue($queue),
        );
    }

    private static function queue(JsonMap $queue): QueueReport
    {
        return new QueueReport(
            at: $queue->number('at'),
            waiting: $queue->integer('waiting'),
            waitingBytes: $queue->integer('waiting_bytes'),
            oldestAgeS: $queue->number('oldest_age_s'),
            dead: $queue->integer('dead'),
            readsWaiting: $queue->integer('reads_waiting'),
            storeError: $queue->textOrNull('store_error'),
        );
    }
}
