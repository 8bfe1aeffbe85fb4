<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

/** @internal Text for errors, in the same words as the other clients. */
final class Text
{
    private const ESCAPES = ["\n" => '\n', "\r" => '\r', "\t" => '\t', '\\' => '\\\\'];
    private const WORDS = [
        'NULL' => 'null',
        'boolean' => 'a boolean',
        'integer' => 'an integer',
        'double' => 'a float',
        'string' => 'text',
    ];

    public static function isUnicode(string $text): bool
    {
        return preg_match('//u', $text) === 1;
    }

    /** Replace bytes that are not UTF-8 by U+FFFD. */
    public static function scrub(string $text): string
    {
        return self::isUnicode($text)
            ? $text
            : htmlspecialchars_decode(htmlspecialchars($text, ENT_NOQUOTES | ENT_SUBSTITUTE, 'UTF-8'), ENT_NOQUOTES);
    }

    /** Return the number of characters. */
    public static function length(string $text): int
    {
        return (int) preg_match_all('/./su', self::scrub($text));
    }

    /** Return the first characters. */
    public static function first(string $text, int $characters): string
    {
        return preg_match("/^.{0,$characters}/su", self::scrub($text), $match) === 1 ? $match[0] : '';
    }

    /** Return the word for a value's type, or the name of a class. */
    public static function typeWord(mixed $value): string
    {
        if (is_array($value)) {
            return array_is_list($value) ? 'a list' : 'a map';
        }
        if ($value instanceof \stdClass) {
            return 'a map';
        }

        return is_object($value) ? $value::class : self::WORDS[gettype($value)] ?? gettype($value);
    }

    /** Return a short form of a value in ASCII. */
    public static function excerpt(mixed $value): string
    {
        $shown = match (true) {
            $value === null => 'null',
            is_bool($value) => $value ? 'true' : 'false',
            is_float($value) => self::float($value),
            is_int($value) => (string) $value,
            is_string($value) => self::repr($value, ascii: true),
            default => self::typeWord($value),
        };

        return substr($shown, 0, 80);
    }

    /** Return a text in quotes, in which characters that cannot be printed are escaped. */
    public static function repr(string $text, bool $ascii = false): string
    {
        $quote = str_contains($text, "'") && !str_contains($text, '"') ? '"' : "'";
        $escaped = '';
        preg_match_all('/./su', self::scrub($text), $characters);
        foreach ($characters[0] as $character) {
            $escaped .= match (true) {
                isset(self::ESCAPES[$character]) => self::ESCAPES[$character],
                $character === $quote => "\\$quote",
                $ascii && strlen($character) > 1, !self::isPrintable($character) => self::escape($character),
                default => $character,
            };
        }

        return $quote . $escaped . $quote;
    }

    /** Return a number with ``$digits`` significant digits, without zeros at its end. */
    public static function general(float|int $number, int $digits = 6): string
    {
        $number = (float) $number;
        if (!is_finite($number)) {
            return self::float($number);
        }
        [$mantissa, $exponent] = explode('e', sprintf('%.' . ($digits - 1) . 'e', $number));
        $power = (int) $exponent;
        if ($power >= -4 && $power < $digits) {
            return self::withoutZeros(number_format($number, $digits - 1 - $power, '.', ''));
        }

        return self::withoutZeros($mantissa) . sprintf('e%s%02d', $power < 0 ? '-' : '+', abs($power));
    }

    private static function float(float $number): string
    {
        if (!is_finite($number)) {
            return is_nan($number) ? 'nan' : ($number > 0 ? 'inf' : '-inf');
        }
        $text = (string) json_encode($number, JSON_PRESERVE_ZERO_FRACTION);

        return (string) preg_replace(['/\.0e/', '/e([+-])(\d)$/'], ['e', 'e${1}0$2'], $text);
    }

    private static function withoutZeros(string $number): string
    {
        return str_contains($number, '.') ? rtrim(rtrim($number, '0'), '.') : $number;
    }

    private static function isPrintable(string $character): bool
    {
        return $character === ' ' || preg_match('/^[^\p{C}\p{Z}]$/u', $character) === 1;
    }

    private static function escape(string $character): string
    {
        $code = self::codePoint($character);

        return $code < 0x100 ? sprintf('\x%02x', $code) : sprintf($code < 0x10000 ? '\u%04x' : '\U%08x', $code);
    }

    private static function codePoint(string $character): int
    {
        $bytes = array_map('ord', str_split($character));
        $code = count($bytes) === 1 ? $bytes[0] : $bytes[0] & (0xFF >> (count($bytes) + 1));
        foreach (array_slice($bytes, 1) as $byte) {
            $code = $code << 6 | $byte & 0x3F;
        }

        return $code;
    }
}
