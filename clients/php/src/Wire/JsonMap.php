<?php

declare(strict_types=1);

namespace MemoryWorker\Wire;

/** @internal A map of a decoded JSON document. Values of another type than expected are an error. */
final class JsonMap
{
    /** @param array<array-key, mixed> $values */
    private function __construct(private readonly array $values)
    {
    }

    /**
     * @throws \JsonException
     * @throws \UnexpectedValueException if it is no map
     */
    public static function decode(string $json): self
    {
        return self::of(json_decode($json, true, 512, JSON_THROW_ON_ERROR), 'the document');
    }

    /** @return list<string> */
    public function names(): array
    {
        return array_map(strval(...), array_keys($this->values));
    }

    /** Return whether there is a value other than null. */
    public function has(string $name): bool
    {
        return isset($this->values[$name]);
    }

    public function text(string $name): string
    {
        $value = $this->values[$name] ?? null;

        return is_string($value) ? $value : throw self::wrong($name, 'a text');
    }

    public function textOrNull(string $name): ?string
    {
        return $this->has($name) ? $this->text($name) : null;
    }

    public function integer(string $name): int
    {
        $value = $this->values[$name] ?? null;

        return is_int($value) ? $value : throw self::wrong($name, 'an integer');
    }

    public function number(string $name): float
    {
        $value = $this->values[$name] ?? null;

        return is_int($value) || is_float($value) ? (float) $value : throw self::wrong($name, 'a number');
    }

    /** Return a boolean; false if there is none. */
    public function boolean(string $name): bool
    {
        return ($this->values[$name] ?? false) === true;
    }

    public function facetValue(string $name): string|int|bool
    {
        $value = $this->values[$name] ?? null;

        return is_string($value) || is_int($value) || is_bool($value) ? $value : throw self::wrong($name, 'a value');
    }

    public function map(string $name): ?self
    {
        return $this->has($name) ? self::of($this->values[$name], $name) : null;
    }

    /** @return array<array-key, mixed> */
    public function values(string $name): array
    {
        return self::of($this->values[$name] ?? null, $name)->values;
    }

    /** @return list<self> */
    public function maps(string $name): array
    {
        return array_map(static fn (mixed $item): self => self::of($item, $name), array_values($this->values($name)));
    }

    /** @return list<string> */
    public function texts(string $name): array
    {
        return array_values(array_filter($this->values($name), is_string(...)));
    }

    private static function of(mixed $value, string $name): self
    {
        return is_array($value) ? new self($value) : throw self::wrong($name, 'a map or a list');
    }

    private static function wrong(string $name, string $expected): \UnexpectedValueException
    {
        return new \UnexpectedValueException("$name is not $expected");
    }
}
