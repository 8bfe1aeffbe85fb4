<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Support;

/**
 * Decodes MessagePack so that all types are kept apart: maps are ``stdClass``, bytes are ``['bytes' => ...]`` in one.
 */
final class MessagePackReader
{
    private int $at = 0;

    private function __construct(private readonly string $data)
    {
    }

    public static function decode(string $data): mixed
    {
        $reader = new self($data);
        $value = $reader->value();
        if ($reader->at !== strlen($data)) {
            throw new \UnexpectedValueException('there are bytes behind the value');
        }

        return $value;
    }

    private function value(): mixed
    {
        $head = ord($this->take(1));

        return match (true) {
            $head < 0x80 => $head,
            $head < 0x90 => $this->map($head & 0x0F),
            $head < 0xA0 => $this->items($head & 0x0F),
            $head < 0xC0 => $this->take($head & 0x1F),
            $head >= 0xE0 => $head - 0x100,
            default => match ($head) {
                0xC0 => null,
                0xC2 => false,
                0xC3 => true,
                0xC4 => $this->bytes($this->number('C', 1)),
                0xC5 => $this->bytes($this->number('n', 2)),
                0xC6 => $this->bytes($this->number('N', 4)),
                0xCB => $this->float(),
                0xCC => $this->number('C', 1),
                0xCD => $this->number('n', 2),
                0xCE => $this->number('N', 4),
                0xCF, 0xD3 => $this->number('J', 8),
                0xD0 => $this->number('C', 1) - 0x100,
                0xD1 => $this->number('n', 2) - 0x10000,
                0xD2 => $this->number('N', 4) - 0x100000000,
                0xD9 => $this->take($this->number('C', 1)),
                0xDA => $this->take($this->number('n', 2)),
                0xDB => $this->take($this->number('N', 4)),
                0xDC => $this->items($this->number('n', 2)),
                0xDD => $this->items($this->number('N', 4)),
                0xDE => $this->map($this->number('n', 2)),
                0xDF => $this->map($this->number('N', 4)),
                default => throw new \UnexpectedValueException(sprintf('no value begins with %02x', $head)),
            },
        };
    }

    private function take(int $length): string
    {
        $this->at += $length;

        return substr($this->data, $this->at - $length, $length);
    }

    private function number(string $format, int $length): int
    {
        $found = unpack($format, $this->take($length));

        return is_array($found) && is_int($found[1]) ? $found[1] : throw new \UnexpectedValueException('no number');
    }

    private function float(): string
    {
        return 'float ' . bin2hex($this->take(8)); // so that -0.0 and 0.0 differ
    }

    private function bytes(int $length): \stdClass
    {
        return (object) ['bytes' => bin2hex($this->take($length))];
    }

    /** @return list<mixed> */
    private function items(int $length): array
    {
        $items = [];
        for ($n = 0; $n < $length; $n++) {
            $items[] = $this->value();
        }

        return $items;
    }

    private function map(int $length): \stdClass
    {
        $map = [];
        for ($n = 0; $n < $length; $n++) {
            $name = $this->value();
            $map[is_scalar($name) ? (string) $name : '?'] = $this->value();
        }
        ksort($map, SORT_STRING);

        return (object) $map;
    }
}
