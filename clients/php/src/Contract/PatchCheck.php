<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

use MemoryWorker\Exception\InvalidJob;

/** @internal Check the changes that a patch makes. */
final class PatchCheck
{
    private const TARGETS = ['point_ids', 'category', 'group_key', 'file_id'];
    private const FIXED = ['user_id', '_point_id', '_tenant', '_version'];

    /** @throws InvalidJob unless the job has one target, and changes that may be made to points of ``$kind`` */
    public static function check(NormalJob $job, Kind $kind): void
    {
        $targets = array_values(array_filter(self::TARGETS, $job->has(...)));
        if (count($targets) !== 1) {
            $given = $targets === [] ? 'got none' : 'got ' . implode(' and ', $targets);
            $problem = sprintf('give exactly one of %s; %s', implode(', ', self::TARGETS), $given);
            throw new InvalidJob($targets[1] ?? 'point_ids', $problem);
        }
        $set = $job->map('set');
        $unset = $job->texts('unset');
        if ($set === [] && $unset === []) {
            throw new InvalidJob('set', 'give at least one field in set or unset');
        }
        self::checkSet($set, $kind);
        foreach ($unset as $position => $name) {
            self::checkUnset("unset[$position]", $name, $set, $kind);
        }
    }

    /** @param array<array-key, mixed> $set */
    private static function checkSet(array $set, Kind $kind): void
    {
        foreach ($set as $name => $value) {
            if (in_array($name, self::FIXED, true)) {
                throw new InvalidJob("set.$name", 'a patch cannot change this field');
            }
            if ($value === null) {
                throw new InvalidJob("set.$name", 'must not be null: name the field in unset to remove it');
            }
        }
        try {
            Payload::check($set, $kind);
        } catch (InvalidJob $error) {
            throw MapType::aboutSet($error);
        }
    }

    /** @param array<array-key, mixed> $set */
    private static function checkUnset(string $field, string $name, array $set, Kind $kind): void
    {
        if (preg_match('/^[A-Za-z0-9_-]{1,256}$/D', $name) !== 1) {
            throw new InvalidJob($field, '1 to 256 characters A-Z a-z 0-9 _ - are allowed');
        }
        $shown = Text::repr($name);
        if (in_array($name, self::FIXED, true)) {
            throw new InvalidJob($field, "a patch cannot remove $shown");
        }
        if (array_key_exists($name, $kind->payloadDefaults)) {
            $problem = sprintf('%s has a default in kind %s: set it instead', $shown, Text::repr($kind->name));
            throw new InvalidJob($field, $problem);
        }
        if (array_key_exists($name, $set)) {
            throw new InvalidJob($field, "$shown is in set, too");
        }
    }
}
