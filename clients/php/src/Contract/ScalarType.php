<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

use MemoryWorker\Exception\InvalidJob;

/** @internal A text, a number or a boolean, with its limits. */
final class ScalarType implements FieldType
{
    /**
     * @param non-empty-list<string> $types names, such as ``int`` and ``str``
     * @param int|null $min lowest integer
     * @param int|null $max highest integer
     * @param int|null $minLength fewest characters of a text
     * @param int|null $maxLength most characters of a text
     * @param string $pattern the pattern of a text; empty: any
     * @param list<string> $choices the only texts that are allowed; empty: any
     */
    public function __construct(
        private readonly array $types,
        private readonly bool $isNullable = false,
        private readonly ?int $min = null,
        private readonly ?int $max = null,
        private readonly ?int $minLength = null,
        private readonly ?int $maxLength = null,
        private readonly string $pattern = '',
        private readonly array $choices = [],
    ) {
    }

    public static function text(?int $min = null, ?int $max = null, string $pattern = ''): self
    {
        return new self(['str'], minLength: $min, maxLength: $max, pattern: $pattern);
    }

    public static function optionalText(?int $min = null, ?int $max = null): self
    {
        return new self(['str'], isNullable: true, minLength: $min, maxLength: $max);
    }

    public static function integer(?int $min = null, ?int $max = null, bool $isNullable = false): self
    {
        return new self(['int'], $isNullable, $min, $max);
    }

    public static function boolean(): self
    {
        return new self(['bool']);
    }

    public function allowsNull(): bool
    {
        return $this->isNullable;
    }

    public function normalize(string $field, mixed $value): mixed
    {
        $value = $value instanceof \BackedEnum ? $value->value : $value;
        if (is_string($value) && !Text::isUnicode($value)) {
            throw new InvalidJob($field, 'is not Unicode text: it is not valid UTF-8');
        }

        return $value;
    }

    public function check(string $field, mixed $value): mixed
    {
        if ($value === null && $this->isNullable) {
            return null;
        }
        $type = Types::nameOf($value);
        if ($type === 'int' && !in_array('int', $this->types, true) && in_array('float', $this->types, true) && is_int($value)) {
            $value = (float) $value;
        } elseif (!in_array($type, $this->types, true)) {
            $expected = implode(' | ', [...$this->types, ...($this->isNullable ? ['null'] : [])]);
            throw new InvalidJob($field, "expected `$expected`, got `$type`");
        }
        if (is_int($value)) {
            $this->checkRange($field, $value);
        } elseif (is_string($value)) {
            $this->checkText($field, $value);
        }

        return $value;
    }

    private function checkRange(string $field, int $number): void
    {
        if ($this->min !== null && $number < $this->min) {
            throw new InvalidJob($field, "expected `int` >= $this->min");
        }
        if ($this->max !== null && $number > $this->max) {
            throw new InvalidJob($field, "expected `int` <= $this->max");
        }
    }

    private function checkText(string $field, string $text): void
    {
        if ($this->minLength !== null && strlen($text) < $this->minLength) {
            throw new InvalidJob($field, "expected `str` of length >= $this->minLength");
        }
        if ($this->maxLength !== null && strlen($text) > $this->maxLength && Text::length($text) > $this->maxLength) {
            throw new InvalidJob($field, "expected `str` of length <= $this->maxLength");
        }
        if ($this->pattern !== '' && preg_match("/$this->pattern/D", $text) !== 1) {
            throw new InvalidJob($field, "expected `str` matching regex '$this->pattern'");
        }
        if ($this->choices !== [] && !in_array($text, $this->choices, true)) {
            throw new InvalidJob($field, 'invalid enum value ' . Text::repr($text));
        }
    }
}
