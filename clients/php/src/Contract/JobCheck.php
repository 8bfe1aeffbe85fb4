<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

use MemoryWorker\Absent;
use MemoryWorker\Exception\InvalidJob;

/** @internal Check what types cannot express: the owner of points, the rules of their kind, and the limits. */
final class JobCheck
{
    public function __construct(private readonly Limits $limits)
    {
    }

    /** @throws InvalidJob */
    public function check(NormalJob $job): void
    {
        match ($job->op) {
            'upsert' => $this->checkUpsert($job),
            'purge' => $this->checkPurge($job),
            'search' => $this->checkSearch($job),
            'search_many' => $this->checkSearches($job),
            'info', 'health' => null,
            default => $this->checkOther($job),
        };
    }

    private function kindOf(string $name): Kind
    {
        $shown = Text::repr(Text::first($name, 80));
        $kinds = $this->limits->kinds;

        return $kinds[$name] ?? throw new InvalidJob('kind', "$shown is none of " . implode(', ', array_keys($kinds)));
    }

    private function checkUpsert(NormalJob $job): void
    {
        $kind = $this->kindOf($job->text('kind'));
        $kind->checkNamespace($job->textOrNull('namespace'));
        $kind->checkUserId($job->userId());
        $kind->checkPointId($job->text('point_id'), $job->userId());
        $this->checkVector($job, $kind);
        $payload = $job->map('payload');
        Payload::check($payload, $kind);
        self::checkIdentity($payload, 'user_id', $job->userId());
        self::checkIdentity($payload, '_point_id', $job->text('point_id'));
    }

    private function checkPurge(NormalJob $job): void
    {
        $kind = $job->has('kind') ? $this->kindOf($job->text('kind')) : null;
        $userId = $job->userId();
        if ($kind !== null) {
            $kind->checkUserId($userId);
        } else {
            $this->checkUserOfAnyKind($userId);
        }
        if ($job->has('namespace')) {
            if ($kind === null) {
                throw new InvalidJob('namespace', 'needs a kind');
            }
            $kind->checkNamespace($job->text('namespace'));
        }
        self::checkNarrowing($job, $kind);
        foreach (['before' => 'created', 'other_than_model' => 'embedding_model_id'] as $name => $field) {
            if ($kind !== null && $job->has($name) && ($kind->payloadTypes[$field] ?? null) !== ScalarType::INTEGER) {
                $problem = 'kind %s has no integer field %s';
                throw new InvalidJob($name, sprintf($problem, Text::repr($kind->name), Text::repr($field)));
            }
        }
    }

    private function checkUserOfAnyKind(int|string $userId): void
    {
        foreach ($this->limits->kinds as $kind) {
            if ($kind->hasUser($userId)) {
                $kind->checkUserId($userId);

                return;
            }
        }
        throw new InvalidJob('user_id', sprintf('no kind has %s user ids', is_string($userId) ? 'text' : 'integer'));
    }

    private function checkSearch(NormalJob $job): void
    {
        $kind = $this->kindOf($job->text('kind'));
        $kind->checkNamespace($job->textOrNull('namespace'));
        $kind->checkUserId($job->userId());
        self::checkNarrowing($job, $kind);
        SelectionCheck::checkSearch($job, $kind);
        if ($job->has('vector')) {
            $this->checkVector($job, $kind);
        }
    }

    private function checkSearches(NormalJob $job): void
    {
        SelectionCheck::checkReceipt($job->textOrNull('after'));
        foreach ($job->map('searches') as $position => $search) {
            try {
                if ($search instanceof NormalJob) {
                    $this->checkSearch($search);
                }
            } catch (InvalidJob $error) {
                throw new InvalidJob("searches[$position].$error->field", $error->problem, $error);
            }
        }
    }

    /** Check a job of one kind without a vector. */
    private function checkOther(NormalJob $job): void
    {
        $kind = $this->kindOf($job->text('kind'));
        $isById = in_array($job->op, ['delete', 'patch'], true) && $job->has('point_ids');
        $allAllowed = $isById || in_array($job->op, ['count', 'facet'], true);
        $kind->checkNamespace($job->textOrNull('namespace'), $allAllowed);
        $kind->checkUserId($job->userId());
        if ($job->has('point_ids')) {
            foreach ($job->texts('point_ids') as $position => $pointId) {
                $kind->checkPointId($pointId, $job->userId(), "point_ids[$position]");
            }
        }
        switch ($job->op) {
            case 'delete':
                break;
            case 'patch':
                self::checkNarrowing($job, $kind);
                PatchCheck::check($job, $kind);
                break;
            case 'prune':
                if (!in_array('file_id', $kind->narrowing, true)) {
                    throw new InvalidJob('file_id', sprintf('needs another kind than %s', Text::repr($kind->name)));
                }
                break;
            case 'get':
                SelectionCheck::checkGet($job);
                break;
            default:
                self::checkNarrowing($job, $kind);
                SelectionCheck::check($job, $kind);
        }
    }

    private function checkVector(NormalJob $job, Kind $kind): void
    {
        Vector::check($job->bytes('vector'), $this->limits->dimensionOf($kind), $kind->isCosine());
    }

    /** @param array<array-key, mixed> $payload */
    private static function checkIdentity(array $payload, string $field, int|string $expected): void
    {
        if (array_key_exists($field, $payload) && $payload[$field] !== $expected) {
            $shown = is_int($expected) ? (string) $expected : Text::repr($expected);
            throw new InvalidJob("payload.$field", "differs from the job's $shown");
        }
    }

    private static function checkNarrowing(NormalJob $job, ?Kind $kind): void
    {
        foreach (['category', 'group_key', 'file_id'] as $field) {
            if ($job->has($field) && ($kind === null || !in_array($field, $kind->narrowing, true))) {
                $owner = $kind === null ? 'a kind' : 'another kind than ' . Text::repr($kind->name);
                throw new InvalidJob($field, "needs $owner");
            }
        }
    }
}
