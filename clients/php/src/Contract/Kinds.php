<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

/** @internal The built-in kinds, and those that workers publish. */
final class Kinds
{
    private const EMBEDDING = [
        'embedding_model_id' => ScalarType::INTEGER,
        'embedding_provider' => ScalarType::TEXT,
        'embedding_model' => ScalarType::TEXT,
        'vector_dim' => ScalarType::INTEGER,
        'indexed_at' => ScalarType::TEXT,
    ];
    private const TYPES = [
        'int' => ScalarType::INTEGER,
        'str' => ScalarType::TEXT,
        'float' => ScalarType::FLOAT,
        'bool' => ScalarType::BOOLEAN,
    ];
    private const INDEX_OF = [
        ScalarType::INTEGER => 'integer',
        ScalarType::TEXT => 'keyword',
        ScalarType::BOOLEAN => 'bool',
    ];
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
        $types = array_filter(array_map(
            static fn (string $type): ?string => self::TYPES[$type] ?? null,
            self::texts($spec['fields'] ?? []),
        ));
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
            'category' => ScalarType::TEXT,
            'key' => ScalarType::TEXT,
            'value' => ScalarType::TEXT,
            'source' => ScalarType::TEXT,
            'message_id' => ScalarType::INTEGER,
            'created' => ScalarType::INTEGER,
            'updated' => ScalarType::INTEGER,
            'active' => ScalarType::BOOLEAN,
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
            'file_id' => ScalarType::INTEGER,
            'file_type' => ScalarType::INTEGER,
            'chunk_index' => ScalarType::INTEGER,
            'start_line' => ScalarType::INTEGER,
            'end_line' => ScalarType::INTEGER,
            'created' => ScalarType::INTEGER,
            'group_key' => ScalarType::TEXT,
            'text' => ScalarType::TEXT,
            '_version' => ScalarType::INTEGER,
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
