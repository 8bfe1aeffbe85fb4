<?php

declare(strict_types=1);

namespace MemoryWorker\Job;

use MemoryWorker\Absent;

/**
 * A condition on a field of the payload. All tests that are given must hold.
 *
 * ``any`` and ``notAny`` (1 to 100 values) hold for present values only, as do ``gte`` and ``lte``, which need numbers.
 * With ``orAbsent``, a point without the field meets the condition, too.
 *
 * @phpstan-type ScalarValue bool|int|float|string
 */
final class FieldCondition
{
    /**
     * @param bool|int|float|string|Absent $is
     * @param iterable<bool|int|float|string>|Absent $any
     * @param iterable<bool|int|float|string>|Absent $notAny
     * @param int|float|Absent $gte
     * @param int|float|Absent $lte
     */
    public function __construct(
        public readonly bool|int|float|string|Absent|null $is = Absent::Field,
        public readonly iterable|Absent|null $any = Absent::Field,
        public readonly iterable|Absent|null $notAny = Absent::Field,
        public readonly int|float|Absent|null $gte = Absent::Field,
        public readonly int|float|Absent|null $lte = Absent::Field,
        public readonly bool $orAbsent = false,
    ) {
    }

    /**
     * Return the tests that are given, by their names on the wire.
     *
     * @return array<string, mixed>
     */
    public function tests(): array
    {
        return Given::only([
            'is' => $this->is,
            'any' => $this->any,
            'not_any' => $this->notAny,
            'gte' => $this->gte,
            'lte' => $this->lte,
            'or_absent' => $this->orAbsent,
        ]);
    }
}
