<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

use MemoryWorker\Exception\InvalidJob;

/**
 * @internal The rules that all points of one kind follow.
 *
 * ``payloadTypes`` has the fields whose type is checked. ``narrowing`` are the fields that may narrow a read or a
 * purge. ``dimension`` null means that of the deployment.
 */
final class Kind
{
    /**
     * @param array<array-key, string> $indexes the type of each index, by its field
     * @param array<array-key, string> $payloadTypes the word for the type of each field
     * @param array<array-key, mixed> $payloadDefaults
     * @param list<string> $narrowing
     */
    public function __construct(
        public readonly string $name,
        public readonly string $idPrefix,
        public readonly bool $hasNamespaces,
        public readonly array $indexes,
        public readonly array $payloadTypes,
        public readonly array $payloadDefaults,
        public readonly array $narrowing,
        public readonly ?int $dimension = null,
        public readonly string $distance = 'cosine',
        public readonly string $userIds = 'integer',
    ) {
    }

    public function isCosine(): bool
    {
        return $this->distance === 'cosine';
    }

    public function hasUser(int|string $userId): bool
    {
        return is_int($userId) === ($this->userIds === 'integer');
    }

    /** @throws InvalidJob unless ``$userId`` may own points of this kind */
    public function checkUserId(int|string $userId): void
    {
        if (!$this->hasUser($userId)) {
            $shown = is_int($userId) ? (string) $userId : Text::first(Text::repr($userId), 80);
            $kind = Text::repr($this->name);
            throw new InvalidJob('user_id', "kind $kind has $this->userIds user ids, got $shown");
        }
        if (is_string($userId)) {
            self::checkTextUserId($userId);
        }
    }

    /** @throws InvalidJob for a text that cannot be a user id */
    public static function checkTextUserId(string $userId): void
    {
        $shown = Text::repr(Text::first($userId, 80));
        if (preg_match('/^[A-Za-z0-9.@\-]{1,128}$/D', $userId) !== 1) {
            throw new InvalidJob('user_id', "$shown: 1 to 128 characters A-Z a-z 0-9 . @ - are allowed");
        }
        if (preg_match('/^[0-9]+$/D', $userId) === 1) {
            throw new InvalidJob('user_id', "$shown: a user id of digits must be an integer");
        }
    }

    /** @throws InvalidJob unless ``$pointId`` belongs to this kind and this user */
    public function checkPointId(string $pointId, int|string $userId, string $field = 'point_id'): void
    {
        $owner = "{$this->idPrefix}_{$userId}_";
        if (!str_starts_with($pointId, $owner)) {
            $shown = Text::repr(Text::first($pointId, 80));
            $problem = "$shown does not belong to user $userId: it must start with " . Text::repr($owner);
            throw new InvalidJob($field, $problem);
        }
        if (preg_match('/^[A-Za-z0-9_.:\-]{1,200}$/D', substr($pointId, strlen($owner))) !== 1) {
            $shown = Text::repr(Text::first($pointId, 80));
            $problem = "$shown: 1 to 200 characters A-Z a-z 0-9 _ . : - must follow " . Text::repr($owner);
            throw new InvalidJob($field, $problem);
        }
    }

    /**
     * @param bool $allAllowed whether it may also be ``*``, the base collection and every namespace
     *
     * @throws InvalidJob unless ``$namespace`` may name a collection of this kind
     */
    public function checkNamespace(?string $namespace, bool $allAllowed = false, string $field = 'namespace'): void
    {
        if ($namespace === null) {
            return;
        }
        if (!$this->hasNamespaces) {
            throw new InvalidJob($field, sprintf('kind %s has no namespaces', Text::repr($this->name)));
        }
        if (preg_match('/^[a-z0-9_\-]{1,64}$/D', $namespace) !== 1 && !($allAllowed && $namespace === '*')) {
            $shown = Text::repr(Text::first($namespace, 80));
            throw new InvalidJob($field, "$shown: 1 to 64 characters a-z 0-9 _ - are allowed");
        }
    }
}
