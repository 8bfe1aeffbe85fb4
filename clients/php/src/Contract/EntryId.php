<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

/** @internal The ids of entries of a stream in Redis: two numbers of 64 bits without a sign. */
final class EntryId
{
    private const LARGEST = '18446744073709551615';

    public static function isValid(string $text): bool
    {
        if (preg_match('/^([0-9]{1,20})-([0-9]{1,20})$/D', $text, $match) !== 1) {
            return false;
        }

        return trim("$match[1]$match[2]", '0') !== ''
            && strcmp(self::pad($match[1]), self::LARGEST) <= 0
            && strcmp(self::pad($match[2]), self::LARGEST) <= 0;
    }

    /** Return the id with both numbers of 20 digits. Ids in this form are in the order of their texts. */
    public static function padded(string $id): string
    {
        return implode('-', array_map(self::pad(...), explode('-', $id, 2)));
    }

    /** Return a number with 20 digits. */
    public static function pad(string $number): string
    {
        return str_pad($number, 20, '0', STR_PAD_LEFT);
    }

    /** Return the first number, which is a time in unix milliseconds. */
    public static function milliseconds(string $id): string
    {
        return explode('-', $id, 2)[0];
    }

    /** Return the id just before this one. */
    public static function before(string $id): string
    {
        [$milliseconds, $sequence] = explode('-', $id, 2);

        return trim($sequence, '0') === ''
            ? self::decrement($milliseconds) . '-' . self::LARGEST
            : "$milliseconds-" . self::decrement($sequence);
    }

    /** Return a positive decimal number less 1. It may have more bits than an integer of PHP. */
    private static function decrement(string $number): string
    {
        preg_match('/^(.*?)([1-9])(0*)$/D', $number, $match);
        [, $head, $digit, $zeros] = $match;
        $less = ltrim($head . ((int) $digit - 1) . str_repeat('9', strlen($zeros)), '0');

        return $less === '' ? '0' : $less;
    }
}
