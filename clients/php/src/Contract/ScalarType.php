<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

use MemoryWorker\Exception\InvalidJob;

/** @internal A text, a number or a boolean, with its limits. */
final class ScalarType implements FieldType
{
    public const TEXT = 'text';
    public const INTEGER = 'an integer';
    public const FLOAT = 'a float';
    public const BOOLEAN = 'a boolean';

    /**
     * @param non-empty-list<string> $types words, such as ``an integer`` and ``text``
     * @param int|null $min lowest integer
     * @param int|null $max highest integer
     * @param int|null $maxLength most characters of a text
     * @param string $pattern the pattern of a text; empty: any
     * @param list<string> $choices the only texts that are allowed; empty: any
     * @param bool $mayBeEmpty whether the empty text is allowed
     */
    public function __construct(
        private readonly array $types,
        private readonly bool $isNullable = false,
        private readonly ?int $min = null,
        private readonly ?int $max = null,
        private readonly ?int $maxLength = null,
        private readonly string $pattern = '',
        private readonly array $choices = [],
        private readonly bool $mayBeEmpty = true,
    ) {
    }

    public static function text(?int $max = null, string $pattern = ''): self
    {
        return new self([self::TEXT], maxLength: $max, pattern: $pattern);
    }

    public static function optionalText(?int $max = null, bool $mayBeEmpty = true): self
    {
        return new self([self::TEXT], isNullable: true, maxLength: $max, mayBeEmpty: $mayBeEmpty);
    }

    public static function integer(?int $min = null, ?int $max = null, bool $isNullable = false): self
    {
        return new self([self::INTEGER], $isNullable, $min, $max);
    }

    public static function boolean(): self
    {
        return new self([self::BOOLEAN]);
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
        $type = Text::typeWord($value);
        if (is_int($value) && $this->types === [self::FLOAT]) {
            $value = (float) $value;
        } elseif (!in_array($type, $this->types, true)) {
            $expected = implode(' or ', [...$this->types, ...($this->isNullable ? ['null'] : [])]);
            throw new InvalidJob($field, "expected $expected, got $type");
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
            throw new InvalidJob($field, "expected an integer >= $this->min");
        }
        if ($this->max !== null && $number > $this->max) {
            throw new InvalidJob($field, "expected an integer <= $this->max");
        }
    }

    private function checkText(string $field, string $text): void
    {
        if (!$this->mayBeEmpty && $text === '') {
            throw new InvalidJob($field, 'must not be empty');
        }
        if ($this->maxLength !== null && strlen($text) > $this->maxLength && Text::length($text) > $this->maxLength) {
            throw new InvalidJob($field, "at most $this->maxLength characters are allowed");
        }
        if ($this->pattern !== '' && preg_match("/$this->pattern/D", $text) !== 1) {
            throw new InvalidJob($field, "expected text matching regex '$this->pattern'");
        }
        if ($this->choices !== [] && !in_array($text, $this->choices, true)) {
            throw new InvalidJob($field, 'invalid enum value ' . Text::repr($text));
        }
    }
}
