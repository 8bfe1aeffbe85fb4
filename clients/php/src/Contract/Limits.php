<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

/**
 * @internal What a job is checked against: the kinds, the dimension of vectors, and the bytes of the encoded job.
 *
 * ``dimension`` is that of kinds without their own. Null: not known yet.
 */
final class Limits
{
    public const MAX_JOB_BYTES = 1_048_576;
    /** @var array<string, Kind> */
    public readonly array $kinds;

    /** @param array<string, Kind>|null $kinds null: the built-in ones */
    public function __construct(
        public readonly ?int $dimension = null,
        public readonly int $maxJobBytes = self::MAX_JOB_BYTES,
        ?array $kinds = null,
    ) {
        $this->kinds = $kinds ?? Kinds::builtIn();
    }

    public function hasDimensions(): bool
    {
        foreach ($this->kinds as $kind) {
            if ($this->dimensionOf($kind) === null) {
                return false;
            }
        }

        return true;
    }

    public function dimensionOf(Kind $kind): ?int
    {
        return $kind->dimension ?? $this->dimension;
    }
}
