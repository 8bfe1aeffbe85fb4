<?php

declare(strict_types=1);

namespace MemoryWorker\Wire;

use MemoryWorker\Redis\BrokenConnection;

/** @internal Parts of replies of Redis, in their types. A part of another type counts as empty. */
final class Decoded
{
    public static function text(mixed $value): string
    {
        return is_string($value) || is_int($value) ? (string) $value : '';
    }

    /** @return list<mixed> */
    public static function list(mixed $value): array
    {
        return is_array($value) ? array_values($value) : [];
    }

    /**
     * Return a list of ``$count`` parts. Only inside of `Link::run`.
     *
     * @return list<mixed>
     *
     * @throws BrokenConnection if it is the reply to another command, such as an earlier one that was given up
     */
    public static function exactly(int $count, mixed $value): array
    {
        return is_array($value) && count($value) === $count
            ? array_values($value)
            : throw self::another();
    }

    /** Return an error that lets `Link::run` leave the connection. */
    public static function another(): BrokenConnection
    {
        return new BrokenConnection('the connection has the answer to another command');
    }

    /** @return list<string> */
    public static function texts(mixed $value): array
    {
        return array_map(self::text(...), self::list($value));
    }

    /**
     * Return the fields of an entry of a stream. Redis sends names and values in turns.
     *
     * @return array<string, string>
     */
    public static function fields(mixed $value): array
    {
        $fields = [];
        foreach (array_chunk(self::texts($value), 2) as $pair) {
            $fields[$pair[0]] = $pair[1] ?? '';
        }

        return $fields;
    }
}
