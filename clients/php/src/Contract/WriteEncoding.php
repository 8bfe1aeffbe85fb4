<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

use MemoryWorker\Exception\InvalidJob;

/** @internal Check and encode write jobs, and choose their contract version. */
final class WriteEncoding
{
    private const BUILT_IN = ['memory', 'document'];

    /** @throws InvalidJob */
    public static function encode(NormalJob $job, Limits $limits): string
    {
        (new JobCheck($limits))->check($job);
        $body = $job->encode();
        if (strlen($body) > $limits->maxJobBytes) {
            $numbers = [number_format($limits->maxJobBytes), number_format(strlen($body))];
            throw new InvalidJob('job', vsprintf('at most %s bytes are allowed, got %s', $numbers));
        }

        return $body;
    }

    /** Return the lowest contract version that can hold a job, so that older workers can apply as many as possible. */
    public static function version(NormalJob $job, Limits $limits): int
    {
        $kind = $job->textOrNull('kind');
        $isNew = in_array($job->op, ['patch', 'prune'], true)
            || $job->op === 'delete' && $job->get('namespace') === '*'
            || $job->op === 'purge' && ($job->has('before') || $job->has('other_than_model'))
            || is_string($job->userId())
            || $job->get('ref') !== null
            || $job->get('notify') === true
            || $kind !== null && self::isNewKind($kind, $limits);

        return $isNew ? 2 : 1;
    }

    private static function isNewKind(string $name, Limits $limits): bool
    {
        $dimension = ($limits->kinds[$name] ?? null)?->dimension;

        return !in_array($name, self::BUILT_IN, true) || $dimension !== null && $dimension !== $limits->dimension;
    }
}
