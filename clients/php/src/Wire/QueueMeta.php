<?php

declare(strict_types=1);

namespace MemoryWorker\Wire;

use MemoryWorker\Contract\Kinds;
use MemoryWorker\Contract\Limits;

/**
 * @internal The number of partitions, which is fixed at first use, and the limits, which follow the workers' settings.
 *
 * ``minReplicas`` replicas of Redis must have a job before its push returns.
 */
final class QueueMeta
{
    private const NUMBERS = ['partitions', 'dimension', 'max_job_bytes', 'min_replicas'];

    public function __construct(
        public readonly int $partitions = 32,
        public readonly Limits $limits = new Limits(),
        public readonly int $minReplicas = 0,
    ) {
    }

    /** Return the published metadata, or null if no worker has published any. */
    public static function read(Link $link, Keys $keys, TimeLimit $limit): ?self
    {
        $names = [...self::NUMBERS, 'kinds'];
        $found = $link->run($limit, static fn (): array => Decoded::exactly(
            count($names),
            $link->command(['HMGET', $keys->meta, ...$names], $limit),
        ));
        $fields = [];
        foreach (Decoded::texts($found) as $position => $value) {
            $fields[$names[$position] ?? ''] = $value;
        }

        return self::decode($fields);
    }

    /** @param array<string, string> $fields */
    private static function decode(array $fields): ?self
    {
        $numbers = [];
        foreach (self::NUMBERS as $name) {
            if (preg_match('/^[0-9]{1,18}$/D', $fields[$name] ?? '') === 1) {
                $numbers[$name] = (int) $fields[$name];
            }
        }
        if (!isset($numbers['partitions'])) {
            return null;
        }
        $limits = new Limits(
            $numbers['dimension'] ?? null,
            $numbers['max_job_bytes'] ?? Limits::MAX_JOB_BYTES,
            Kinds::decode($fields['kinds'] ?? ''),
        );

        return new self($numbers['partitions'], $limits, $numbers['min_replicas'] ?? 0);
    }
}
