<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

use MemoryWorker\Exception\InvalidJob;

/** @internal A list of values of one type. */
final class ListType implements FieldType
{
    /** @param string $of what the items are, for errors */
    public function __construct(
        private readonly string $of,
        private readonly FieldType $items,
        private readonly int $max,
        private readonly bool $mayBeEmpty = true,
    ) {
    }

    public function allowsNull(): bool
    {
        return false;
    }

    public function normalize(string $field, mixed $value): mixed
    {
        $normal = [];
        foreach (self::items($field, $value, $this->of, $this->max) as $position => $item) {
            $normal[] = $this->items->normalize("{$field}[$position]", $item);
        }

        return $normal;
    }

    public function check(string $field, mixed $value): mixed
    {
        if (!is_array($value)) {
            throw new InvalidJob($field, sprintf('expected a list, got %s', Text::typeWord($value)));
        }
        if ($value === [] && !$this->mayBeEmpty) {
            throw new InvalidJob($field, 'must not be empty');
        }
        if (count($value) > $this->max) {
            throw new InvalidJob($field, sprintf('at most %s are allowed', number_format($this->max)));
        }
        $checked = [];
        foreach (array_values($value) as $position => $item) {
            $checked[] = $this->items->check("{$field}[$position]", $item);
        }

        return $checked;
    }

    /**
     * Return the items of a list. If there are more than ``$max``, return one too many, so that a later check finds it.
     *
     * @return list<mixed>
     *
     * @throws InvalidJob
     */
    public static function items(string $field, mixed $values, string $of, ?int $max = null): array
    {
        if (!is_iterable($values) || is_array($values) && !array_is_list($values)) {
            throw new InvalidJob($field, sprintf('expected a list of %s, got %s', $of, Text::typeWord($values)));
        }
        $items = [];
        foreach ($values as $value) {
            $items[] = $value;
            if ($max !== null && count($items) > $max) {
                break;
            }
        }

        return $items;
    }
}
