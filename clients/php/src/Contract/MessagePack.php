<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

/**
 * @internal Encode values as MessagePack, in the shortest forms.
 *
 * A text is UTF-8, and `Bytes` are binary. A list is an array whose keys are 0, 1 and so on. Any other array and
 * ``stdClass`` are maps. There is no decoder, because replies are JSON.
 */
final class MessagePack
{
    public static function encode(mixed $value): string
    {
        return match (true) {
            is_string($value) => self::text($value),
            is_int($value) => self::integer($value),
            is_float($value) => "\xcb" . pack('E', $value),
            is_bool($value) => $value ? "\xc3" : "\xc2",
            $value === null => "\xc0",
            $value instanceof Bytes => self::bytes($value->bytes),
            $value instanceof \stdClass => self::map((array) $value),
            is_array($value) => array_is_list($value) ? self::list($value) : self::map($value),
            default => throw new \LogicException(get_debug_type($value) . ' cannot be encoded'),
        };
    }

    /** @param array<array-key, mixed> $fields */
    public static function map(array $fields): string
    {
        $encoded = self::head(count($fields), 15, "\x80", "\xde", "\xdf");
        foreach ($fields as $name => $value) {
            $encoded .= self::text((string) $name) . self::encode($value);
        }

        return $encoded;
    }

    /** @param list<mixed> $values */
    private static function list(array $values): string
    {
        $head = self::head(count($values), 15, "\x90", "\xdc", "\xdd");

        return $head . implode('', array_map(self::encode(...), $values));
    }

    private static function text(string $text): string
    {
        $length = strlen($text);

        $hasOneByte = $length > 31 && $length < 0x100;

        return ($hasOneByte ? "\xd9" . chr($length) : self::head($length, 31, "\xa0", "\xda", "\xdb")) . $text;
    }

    private static function bytes(string $bytes): string
    {
        $length = strlen($bytes);

        return ($length < 0x100 ? "\xc4" . chr($length) : self::head($length, -1, '', "\xc5", "\xc6")) . $bytes;
    }

    private static function integer(int $number): string
    {
        if ($number >= 0) {
            return match (true) {
                $number < 0x80 => chr($number),
                $number < 0x100 => "\xcc" . chr($number),
                $number < 0x10000 => "\xcd" . pack('n', $number),
                $number <= 0xFFFFFFFF => "\xce" . pack('N', $number),
                default => "\xcf" . pack('J', $number),
            };
        }

        return match (true) {
            $number >= -0x20 => chr($number & 0xFF),
            $number >= -0x80 => "\xd0" . chr($number & 0xFF),
            $number >= -0x8000 => "\xd1" . pack('n', $number & 0xFFFF),
            $number >= -0x80000000 => "\xd2" . pack('N', $number & 0xFFFFFFFF),
            default => "\xd3" . pack('J', $number),
        };
    }

    /** Return the head of a value of ``$length`` parts: in the type's byte up to ``$short``, or in 2 or 4 bytes. */
    private static function head(int $length, int $short, string $type, string $two, string $four): string
    {
        return match (true) {
            $length <= $short => chr(ord($type) | $length),
            $length < 0x10000 => $two . pack('n', $length),
            default => $four . pack('N', $length),
        };
    }
}
