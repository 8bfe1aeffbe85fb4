<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

/** @internal The built-in kinds, and those that workers publish. */
final class Kinds
{
    private const EMBEDDING = [
        'embedding_model_id' => 'int',
        'embedding_provider' => 'str',
        'embedding_model' => 'str',
        'vector_dim' => 'int',
        'indexed_at' => 'str',
    ];
    private const INDEX_OF = ['int' => 'integer', 'str' => 'keyword', 'bool' => 'bool'];
    /** The fields by which purges and prunes select old points. */
    private const AGE = ['created', 'embedding_model_id', '_version'];

    /** @return array<string, Kind> */
    public static function builtIn(): array
    {
        return ['memory' => self::memory(), 'document' => self::document()];
    }

    /**
     * Return the kinds that workers have published as JSON, or null if this is none that can be read.
     *
     * @return non-empty-array<string, Kind>|null
     */
    public static function decode(string $json): ?array
    {
        $specs = json_decode($json, true);
        $kinds = [];
        foreach (is_array($specs) ? $specs : [] as $name => $spec) {
            $kind = is_array($spec) ? self::decodeOne((string) $name, $spec) : null;
            if ($kind === null) {
                return null;
            }
            $kinds[$kind->name] = $kind;
        }

        return $kinds === [] ? null : $kinds;
    }

    /** @param array<array-key, mixed> $spec */
    private static function decodeOne(string $name, array $spec): ?Kind
    {
        $prefix = $spec['id_prefix'] ?? null;
        $dimension = $spec['dimension'] ?? null;
        $hasNamespaces = $spec['namespaces'] ?? false;
        if (!is_string($prefix) || !is_bool($hasNamespaces) || !($dimension === null || is_int($dimension))) {
            return null;
        }
        $types = self::texts($spec['fields'] ?? []);
        $narrowing = array_values(self::texts($spec['narrowing'] ?? []));
        $filter = $spec['filter'] ?? [];
        $userIds = $spec['user_ids'] ?? 'integer';
        $defaults = $spec['defaults'] ?? [];

        return new Kind(
            $name,
            $prefix,
            $hasNamespaces,
            self::allIndexes(
                self::texts($spec['indexes'] ?? []),
                $types,
                [...$narrowing, ...array_keys(is_array($filter) ? $filter : []), ...self::AGE],
                $userIds === 'integer',
            ),
            $types,
            is_array($defaults) ? $defaults : [],
            $narrowing,
            $dimension,
            is_string($spec['distance'] ?? null) ? $spec['distance'] : 'cosine',
            $userIds === 'integer' ? 'integer' : 'string',
        );
    }

    /**
     * Return the indexes that a kind names, and those of all fields by which jobs select its points.
     *
     * @param array<array-key, string> $named
     * @param array<array-key, string> $types
     * @param list<array-key> $selecting
     * @return array<array-key, string>
     */
    private static function allIndexes(array $named, array $types, array $selecting, bool $hasIntegerUsers): array
    {
        $needed = [];
        foreach ($selecting as $field) {
            $index = self::INDEX_OF[$types[$field] ?? ''] ?? null;
            if ($index !== null && !isset($named[$field])) {
                $needed[$field] = $index;
            }
        }
        $own = ['user_id' => $hasIntegerUsers ? 'integer' : 'keyword', '_point_id' => 'keyword'];

        return [...$named, ...$needed, ...$own];
    }

    /** @return array<array-key, string> */
    private static function texts(mixed $values): array
    {
        return is_array($values) ? array_filter($values, is_string(...)) : [];
    }

    private static function memory(): Kind
    {
        $types = [
            'category' => 'str',
            'key' => 'str',
            'value' => 'str',
            'source' => 'str',
            'message_id' => 'int',
            'created' => 'int',
            'updated' => 'int',
            'active' => 'bool',
            ...self::EMBEDDING,
        ];
        $indexes = [
            'user_id' => 'integer',
            'category' => 'keyword',
            '_point_id' => 'keyword',
            'active' => 'bool',
            'created' => 'integer',
            'updated' => 'integer',
            'embedding_model_id' => 'integer',
        ];

        return new Kind('memory', 'mem', true, $indexes, $types, ['active' => true], ['category']);
    }

    private static function document(): Kind
    {
        $types = [
            'file_id' => 'int',
            'file_type' => 'int',
            'chunk_index' => 'int',
            'start_line' => 'int',
            'end_line' => 'int',
            'created' => 'int',
            'group_key' => 'str',
            'text' => 'str',
            '_version' => 'int',
            ...self::EMBEDDING,
        ];
        $indexes = [
            'user_id' => 'integer',
            'file_id' => 'integer',
            'group_key' => 'keyword',
            '_point_id' => 'keyword',
            'created' => 'integer',
            'embedding_model_id' => 'integer',
            '_version' => 'integer',
        ];

        return new Kind('document', 'doc', false, $indexes, $types, [], ['group_key', 'file_id']);
    }
}
