<?php

declare(strict_types=1);

namespace MemoryWorker;

use MemoryWorker\Contract\Build;
use MemoryWorker\Contract\Shape;
use MemoryWorker\Exception\InvalidJob;
use MemoryWorker\Job\Delete;
use MemoryWorker\Job\Patch;
use MemoryWorker\Job\Prune;
use MemoryWorker\Job\Purge;
use MemoryWorker\Job\Upsert;
use MemoryWorker\Job\WriteJob;

/** @internal The methods that push one kind of job, by `pushMany`. */
trait WritesByPushing
{
    public function upsert(
        int|string $userId,
        string $pointId,
        string|iterable $vector,
        array|\stdClass $payload = [],
        string $kind = 'memory',
        ?string $namespace = null,
        ?string $ref = null,
        bool $notify = false,
    ): Receipt {
        return $this->push(new Upsert($userId, $pointId, $vector, $payload, $kind, $namespace, $ref, $notify));
    }

    public function upsertMany(iterable $points): array
    {
        return $this->pushMany(Build::upserts($points));
    }

    public function patch(
        int|string $userId,
        string|Absent|null $pointId = Absent::Field,
        iterable|Absent|null $pointIds = Absent::Field,
        string|Absent|null $category = Absent::Field,
        string|Absent|null $groupKey = Absent::Field,
        int|Absent|null $fileId = Absent::Field,
        array|\stdClass $set = [],
        iterable $unset = [],
        string|Absent|null $kind = Absent::Field,
        ?string $namespace = null,
        ?string $ref = null,
        bool $notify = false,
    ): Receipt {
        if ($pointId === null) {
            throw new InvalidJob('point_id', 'must not be null: leave it out');
        }
        $ids = $pointId instanceof Absent ? $pointIds : Build::withId($pointIds, $pointId);

        return $this->pushNamingId($ids, $pointId, new Patch(
            $userId,
            $ids,
            $category,
            $groupKey,
            $fileId,
            $set,
            $unset,
            $kind,
            $namespace,
            $ref,
            $notify,
        ));
    }

    public function delete(
        int|string $userId,
        ?string $pointId = null,
        iterable $pointIds = [],
        string $kind = 'memory',
        ?string $namespace = null,
        ?string $ref = null,
        bool $notify = false,
    ): Receipt {
        $ids = $pointId === null ? $pointIds : Build::withId($pointIds, $pointId);
        $job = new Delete($userId, $ids, $kind, $namespace, $ref, $notify);

        return $this->pushNamingId($ids, $pointId, $job);
    }

    public function purge(
        int|string $userId,
        string|Absent|null $kind = Absent::Field,
        string|Absent|null $namespace = Absent::Field,
        string|Absent|null $category = Absent::Field,
        string|Absent|null $groupKey = Absent::Field,
        int|Absent|null $fileId = Absent::Field,
        int|Absent|null $before = Absent::Field,
        int|Absent|null $otherThanModel = Absent::Field,
        ?string $ref = null,
        bool $notify = false,
    ): Receipt {
        return $this->push(new Purge(
            $userId,
            $kind,
            $namespace,
            $category,
            $groupKey,
            $fileId,
            $before,
            $otherThanModel,
            $ref,
            $notify,
        ));
    }

    public function prune(
        int|string $userId,
        int $fileId,
        int $version,
        string $kind = 'document',
        ?string $namespace = null,
        ?string $ref = null,
        bool $notify = false,
    ): Receipt {
        return $this->push(new Prune($userId, $fileId, $version, $kind, $namespace, $ref, $notify));
    }

    public function replaceFile(
        int|string $userId,
        int $fileId,
        iterable $chunks,
        int $version,
        string $kind = 'document',
        ?string $namespace = null,
        ?string $ref = null,
        bool $notify = false,
    ): array {
        $prune = new Prune($userId, $fileId, $version, $kind, $namespace, $ref, $notify);
        Shape::normalize($prune); // so that a wrong argument is named, and not the field of a chunk

        return $this->pushMany([...Build::chunks($chunks, $prune), $prune]);
    }

    private function push(WriteJob $job): Receipt
    {
        return $this->pushMany([$job])[0];
    }

    /**
     * Push a job whose last id is the argument ``point_id``, and let errors about it say so.
     *
     * @param iterable<string>|Absent|null $ids
     */
    private function pushNamingId(iterable|Absent|null $ids, string|Absent|null $pointId, WriteJob $job): Receipt
    {
        try {
            return $this->push($job);
        } catch (InvalidJob $error) {
            $last = is_array($ids) ? sprintf('point_ids[%d]', count($ids) - 1) : '';
            $isAboutId = is_string($pointId) && $error->field === $last;
            throw $isAboutId ? new InvalidJob('point_id', $error->problem, $error) : $error;
        }
    }
}
