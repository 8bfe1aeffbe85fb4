<?php

declare(strict_types=1);

namespace MemoryWorker\Job;

/** Write a whole point. It replaces an older point with the same ``pointId``. */
final class Upsert implements WriteJob
{
    /**
     * @param string|iterable<int|float> $vector
     * @param array<array-key, mixed>|\stdClass $payload
     */
    public function __construct(
        public readonly int|string $userId,
        public readonly string $pointId,
        public readonly string|iterable $vector,
        public readonly array|\stdClass $payload = [],
        public readonly string $kind = 'memory',
        public readonly ?string $namespace = null,
        public readonly ?string $ref = null,
        public readonly bool $notify = false,
    ) {
    }

    public function op(): string
    {
        return 'upsert';
    }

    public function fields(): array
    {
        return Given::only([
            'kind' => $this->kind,
            'namespace' => $this->namespace,
            'user_id' => $this->userId,
            'point_id' => $this->pointId,
            'vector' => $this->vector,
            'payload' => $this->payload,
            'ref' => $this->ref,
            'notify' => $this->notify,
        ]);
    }
}
