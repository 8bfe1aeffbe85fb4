<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

use MemoryWorker\Exception\InvalidJob;
use MemoryWorker\Job\Search;

/** @internal The searches of a job that runs several. */
final class SearchesType implements FieldType
{
    private const MAX = 16;

    public function allowsNull(): bool
    {
        return false;
    }

    public function normalize(string $field, mixed $value): mixed
    {
        $normal = [];
        $searches = ListType::items($field, $value, 'searches', self::MAX);
        foreach ($searches as $position => $search) {
            $normal[] = $search instanceof Search
                ? $search->fields()
                : Build::searchFields("{$field}[$position]", $search);
        }
        foreach ($normal as $position => $fields) {
            try {
                $normal[$position] = Shape::normalizeFields('search', $fields);
            } catch (InvalidJob $error) {
                throw new InvalidJob("{$field}[$position].$error->field", $error->problem, $error);
            }
        }

        return $normal;
    }

    public function check(string $field, mixed $value): mixed
    {
        $count = is_array($value) ? count($value) : 0;
        if ($count === 0) {
            throw new InvalidJob($field, 'must not be empty');
        }
        if ($count > self::MAX) {
            throw new InvalidJob($field, sprintf('at most %d are allowed', self::MAX));
        }

        return $value;
    }
}
