<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

use MemoryWorker\Absent;

/** @internal A job whose fields have the types of the contract. Its vector is packed. */
final class NormalJob
{
    /** The fields that are maps on the wire, also if an array looks like a list. */
    private const MAPS = ['payload' => true, 'set' => true, 'where' => true];

    /** @param array<string, mixed> $fields those that are given, in the order of the wire */
    public function __construct(public readonly string $op, private readonly array $fields)
    {
    }

    /** Return whether a field is given, or has a default. */
    public function has(string $name): bool
    {
        return $this->get($name) !== Absent::Field;
    }

    /** Return the value of a field, or its default, or ``Absent::Field``. */
    public function get(string $name): mixed
    {
        return array_key_exists($name, $this->fields)
            ? $this->fields[$name]
            : (Fields::of($this->op)[$name] ?? new Field(ScalarType::text()))->default;
    }

    public function text(string $name): string
    {
        $value = $this->get($name);

        return is_string($value) ? $value : throw $this->wrong($name);
    }

    public function textOrNull(string $name): ?string
    {
        $value = $this->get($name);

        return is_string($value) ? $value : null;
    }

    public function integer(string $name): int
    {
        $value = $this->get($name);

        return is_int($value) ? $value : throw $this->wrong($name);
    }

    public function userId(): int|string
    {
        $value = $this->get('user_id');

        return is_int($value) || is_string($value) ? $value : throw $this->wrong('user_id');
    }

    public function bytes(string $name): string
    {
        $value = $this->get($name);

        return $value instanceof Bytes ? $value->bytes : throw $this->wrong($name);
    }

    /** @return list<string> */
    public function texts(string $name): array
    {
        return array_values(array_filter((array) $this->get($name), is_string(...)));
    }

    /** @return array<array-key, mixed> */
    public function map(string $name): array
    {
        $value = $this->get($name);

        return is_array($value) ? $value : throw $this->wrong($name);
    }

    /** @param array<string, mixed> $changes */
    public function with(array $changes): self
    {
        return new self($this->op, [...$this->fields, ...$changes]);
    }

    /** Return the job as a map in MessagePack, without fields that have their default. */
    public function encode(): string
    {
        return MessagePack::map($this->toMap());
    }

    /**
     * Return the job as a map of the wire, without fields that have their default.
     *
     * @return array<string, mixed>
     */
    public function toMap(): array
    {
        $map = ['op' => $this->op];
        $fields = Fields::of($this->op);
        foreach ($this->fields as $name => $value) {
            if ($value === $fields[$name]->default) {
                continue;
            }
            $map[$name] = match (true) {
                isset(self::MAPS[$name]) => (object) $value,
                $name === 'searches' && is_array($value) => array_map(
                    static fn (mixed $search): mixed => $search instanceof self ? $search->toMap() : $search,
                    $value,
                ),
                default => $value,
            };
        }

        return $map;
    }

    private function wrong(string $name): \LogicException
    {
        return new \LogicException("the field $name of a job $this->op has another type");
    }
}
