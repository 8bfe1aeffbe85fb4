<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

/** @internal The fields of each job, in their order on the wire, with the limits of their values. */
final class Fields
{
    public const MAX_POINT_IDS = 1000;
    private const MAX_NUMBER = 2 ** 53;
    private const MAX_VALUES = 100;
    private const MAX_PATCH_FIELDS = 64;

    /** @var array<string, array<string, Field>> */
    private static array $made = [];

    /** @return array<string, Field> */
    public static function of(string $op): array
    {
        return self::$made[$op] ??= match ($op) {
            'upsert' => [
                ...self::point(),
                'point_id' => new Field(ScalarType::text(), isRequired: true),
                'vector' => new Field(new VectorType(), isRequired: true),
                'payload' => new Field(new MapType(), []),
                ...self::outcome(),
            ],
            'delete' => [...self::point(), 'point_ids' => self::pointIds(true), ...self::outcome()],
            'purge' => [
                'kind' => new Field(self::kindName()),
                'namespace' => new Field(ScalarType::text()),
                'user_id' => self::userId(),
                ...self::narrowing(),
                'before' => new Field(ScalarType::integer(1, self::MAX_NUMBER)),
                'other_than_model' => new Field(ScalarType::integer()),
                ...self::outcome(),
            ],
            'patch' => [
                ...self::point(),
                'point_ids' => self::pointIds(false),
                ...self::narrowing(),
                'set' => new Field(new MapType(true, self::MAX_PATCH_FIELDS), []),
                'unset' => new Field(new ListType('field names', ScalarType::text(), self::MAX_PATCH_FIELDS), []),
                ...self::outcome(),
            ],
            'prune' => [
                ...self::point('document'),
                'file_id' => new Field(ScalarType::integer(), isRequired: true),
                'version' => new Field(ScalarType::integer(1, self::MAX_NUMBER), isRequired: true),
                ...self::outcome(),
            ],
            default => self::ofRead($op),
        };
    }

    /** @return array<string, Field> */
    private static function ofRead(string $op): array
    {
        return match ($op) {
            'search' => [
                ...self::point(),
                'vector' => new Field(new VectorType()),
                'like' => new Field(ScalarType::text()),
                'limit' => new Field(ScalarType::integer(1, 200, true), null),
                'min_score' => new Field(new ScalarType([ScalarType::FLOAT], true), null),
                'namespaces' => new Field(new ListType('namespaces', ScalarType::optionalText(), 16, false)),
                ...self::narrowing(),
                'not_category' => new Field(new ListType('categories', ScalarType::text(), self::MAX_VALUES), []),
                'exclude' => new Field(new ListType('point ids', ScalarType::text(), self::MAX_VALUES), []),
                'where' => new Field(new WhereType(), []),
                'fields' => self::projection(),
                ...self::timing(),
            ],
            'search_many' => ['searches' => new Field(new SearchesType(), isRequired: true), ...self::timing()],
            'get' => [
                ...self::point(),
                'point_ids' => self::pointIds(true),
                'vectors' => new Field(ScalarType::boolean(), false),
                'fields' => self::projection(),
                ...self::timing(),
            ],
            'list' => [
                ...self::selection(),
                'order' => new Field(new ScalarType([ScalarType::TEXT], choices: ['id', 'created', 'updated']), 'id'),
                'limit' => new Field(ScalarType::integer(1, 1000), 100),
                'cursor' => new Field(ScalarType::optionalText(max: 512), null),
                'fields' => self::projection(),
            ],
            'facet' => [
                ...self::selection(),
                'by' => new Field(ScalarType::text(max: 64), isRequired: true),
                'limit' => new Field(ScalarType::integer(1, 10_000), 1000),
            ],
            'files' => [...self::selection('document'), 'limit' => new Field(ScalarType::integer(1, 10_000), 10_000)],
            'count', 'stats' => self::selection(),
            'info', 'health' => ['timeout_ms' => self::timing()['timeout_ms']],
            default => throw new \LogicException("there is no job $op"),
        };
    }

    /** @return array<string, Field> */
    private static function point(string $kind = 'memory'): array
    {
        return [
            'kind' => new Field(self::kindName(), $kind),
            'namespace' => new Field(ScalarType::optionalText(), null),
            'user_id' => self::userId(),
        ];
    }

    /** @return array<string, Field> */
    private static function selection(string $kind = 'memory'): array
    {
        ['kind' => $kindField, 'namespace' => $namespace, 'user_id' => $userId] = self::point($kind);

        return [
            'kind' => $kindField,
            'namespace' => $namespace,
            'active' => new Field(new ScalarType([ScalarType::BOOLEAN, ScalarType::TEXT], choices: ['any'])),
            ...self::narrowing(),
            'where' => new Field(new WhereType(), []),
            ...self::timing(),
            'user_id' => $userId,
        ];
    }

    /** @return array<string, Field> */
    private static function narrowing(): array
    {
        return [
            'category' => new Field(ScalarType::text()),
            'group_key' => new Field(ScalarType::text()),
            'file_id' => new Field(ScalarType::integer()),
        ];
    }

    /** @return array<string, Field> */
    private static function outcome(): array
    {
        return [
            'ref' => new Field(ScalarType::optionalText(128, mayBeEmpty: false), null),
            'notify' => new Field(ScalarType::boolean(), false),
        ];
    }

    /** @return array{after: Field, timeout_ms: Field} */
    private static function timing(): array
    {
        return [
            'after' => new Field(ScalarType::optionalText(max: 64), null),
            'timeout_ms' => new Field(ScalarType::integer(1, 60_000), 5000),
        ];
    }

    private static function kindName(): ScalarType
    {
        return ScalarType::text(pattern: '^[a-z][a-z0-9_]{0,31}$');
    }

    private static function userId(): Field
    {
        $types = [ScalarType::INTEGER, ScalarType::TEXT];

        return new Field(new ScalarType($types, min: 1, maxLength: 128, mayBeEmpty: false), isRequired: true);
    }

    private static function pointIds(bool $isRequired): Field
    {
        $type = new ListType('point ids', ScalarType::text(), self::MAX_POINT_IDS, false);

        return new Field($type, isRequired: $isRequired);
    }

    private static function projection(): Field
    {
        return new Field(new ListType('field names', ScalarType::text(), 64, false));
    }
}
