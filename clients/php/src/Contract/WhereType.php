<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

use MemoryWorker\Exception\InvalidJob;
use MemoryWorker\Job\FieldCondition;

/** @internal Conditions on fields of the payload: each field has a value, or tests. */
final class WhereType implements FieldType
{
    private const MAX_FIELDS = 8;
    private const MAX_VALUES = 100;

    /** @var array<string, FieldType> */
    private readonly array $tests;
    private readonly FieldType $value;

    public function __construct()
    {
        $scalars = [ScalarType::BOOLEAN, ScalarType::INTEGER, ScalarType::FLOAT, ScalarType::TEXT];
        $scalar = new ScalarType($scalars);
        $values = new ListType('values', $scalar, self::MAX_VALUES, false);
        $number = new ScalarType([ScalarType::INTEGER, ScalarType::FLOAT]);
        $this->value = new ScalarType([...$scalars, 'a map']);
        $this->tests = [
            'is' => $scalar,
            'any' => $values,
            'not_any' => $values,
            'gte' => $number,
            'lte' => $number,
            'or_absent' => ScalarType::boolean(),
        ];
    }

    public function allowsNull(): bool
    {
        return false;
    }

    public function normalize(string $field, mixed $value): mixed
    {
        if (!$value instanceof \stdClass && (!is_array($value) || $value !== [] && array_is_list($value))) {
            throw new InvalidJob($field, 'expected a map of fields to conditions, got ' . Text::typeWord($value));
        }
        $normal = [];
        foreach ((array) $value as $name => $condition) {
            $normal[$name] = $this->normalizeCondition("$field.$name", $condition);
        }

        return (object) $normal;
    }

    public function check(string $field, mixed $value): mixed
    {
        if (!$value instanceof \stdClass) {
            throw new InvalidJob($field, sprintf('expected a map, got %s', Text::typeWord($value)));
        }
        $fields = (array) $value;
        if (count($fields) > self::MAX_FIELDS) {
            throw new InvalidJob($field, sprintf('at most %d fields are allowed', self::MAX_FIELDS));
        }
        $checked = [];
        foreach ($fields as $name => $condition) {
            $path = "$field." . Text::first((string) $name, 80);
            $checked[$name] = $condition instanceof \stdClass
                ? $this->checkTests($path, (array) $condition)
                : $this->value->check($path, $condition);
        }

        return $checked;
    }

    private function normalizeCondition(string $path, mixed $condition): mixed
    {
        if ($condition instanceof FieldCondition) {
            $condition = (object) $condition->tests();
        }
        if (!$condition instanceof \stdClass && (!is_array($condition) || array_is_list($condition))) {
            return $this->value->normalize($path, $condition);
        }
        $normal = [];
        foreach ((array) $condition as $name => $test) {
            $type = $this->tests[$name] ?? $this->value;
            $normal[$name] = $type->normalize("$path.$name", $test);
        }

        return (object) $normal;
    }

    /**
     * @param array<array-key, mixed> $given
     * @return \stdClass the tests in the order of the contract, without defaults
     */
    private function checkTests(string $path, array $given): \stdClass
    {
        foreach ($given as $name => $test) {
            if (!isset($this->tests[$name])) {
                throw new InvalidJob("$path.$name", "object contains unknown field `$name`");
            }
            $given[$name] = $this->tests[$name]->check("$path.$name", $test);
        }
        $ordered = [];
        foreach ($this->tests as $name => $_) {
            if (array_key_exists($name, $given) && ($name !== 'or_absent' || $given[$name] === true)) {
                $ordered[$name] = $given[$name];
            }
        }

        return (object) $ordered;
    }
}
