<?php

declare(strict_types=1);

namespace MemoryWorker\Contract;

use MemoryWorker\Exception\InvalidJob;
use MemoryWorker\Receipt;

/** @internal Check how reads select points: conditions, order, exclusions and projections. */
final class SelectionCheck
{
    private const MAX_POINTS_WITH_VECTORS = 250;
    private const NOT_FACETED = ['_point_id', 'created', 'updated', '_version'];

    /**
     * @throws InvalidJob unless a search of ``$kind`` has one query and valid conditions. The vector is not checked.
     */
    public static function checkSearch(NormalJob $job, Kind $kind): void
    {
        if ($job->has('vector') === $job->has('like')) {
            throw new InvalidJob('vector', 'give either vector or like');
        }
        if ($job->has('like')) {
            $kind->checkPointId($job->text('like'), $job->userId(), 'like');
        }
        $score = $job->get('min_score');
        if ($kind->isCosine() && is_float($score) && !($score >= -1 && $score <= 1)) {
            throw new InvalidJob('min_score', 'expected -1 to 1, got ' . Text::general($score));
        }
        foreach ($job->texts('exclude') as $position => $pointId) {
            $kind->checkPointId($pointId, $job->userId(), "exclude[$position]");
        }
        if ($job->has('namespaces')) {
            self::checkNamespaces($job, $kind);
        }
        if ($job->texts('not_category') !== [] && !in_array('category', $kind->narrowing, true)) {
            throw new InvalidJob('not_category', sprintf('needs another kind than %s', Text::repr($kind->name)));
        }
        WhereCheck::check($job->map('where'), $kind);
        self::checkReceipt($job->textOrNull('after'));
    }

    /** @throws InvalidJob if a read by ids asks for too many vectors */
    public static function checkGet(NormalJob $job): void
    {
        $count = count($job->texts('point_ids'));
        if ($job->get('vectors') === true && $count > self::MAX_POINTS_WITH_VECTORS) {
            $problem = 'at most %d are allowed with vectors, got %d';
            throw new InvalidJob('point_ids', sprintf($problem, self::MAX_POINTS_WITH_VECTORS, $count));
        }
        self::checkReceipt($job->textOrNull('after'));
    }

    /** @throws InvalidJob unless the job selects points of ``$kind`` by what this kind has */
    public static function check(NormalJob $job, Kind $kind): void
    {
        $shown = Text::repr($kind->name);
        if ($job->has('active') && !isset($kind->payloadTypes['active'])) {
            throw new InvalidJob('active', "needs another kind than $shown");
        }
        WhereCheck::check($job->map('where'), $kind);
        self::checkReceipt($job->textOrNull('after'));
        if ($job->op === 'list') {
            $order = $job->text('order');
            if ($order !== 'id' && ($kind->indexes[$order] ?? null) !== 'integer') {
                throw new InvalidJob('order', sprintf('kind %s has no index on %s', $shown, Text::repr($order)));
            }
        }
        if ($job->op === 'facet') {
            self::checkFacet($job->text('by'), $kind);
        }
        if ($job->op === 'files' && !in_array('file_id', $kind->narrowing, true)) {
            throw new InvalidJob('kind', "kind $shown has no files");
        }
    }

    /** @throws InvalidJob unless ``$after`` is the text of a receipt, or null */
    public static function checkReceipt(?string $after): void
    {
        if ($after !== null) {
            Receipt::parse($after, 'after');
        }
    }

    private static function checkNamespaces(NormalJob $job, Kind $kind): void
    {
        if ($job->get('namespace') !== null) {
            throw new InvalidJob('namespaces', 'give either namespace or namespaces');
        }
        foreach ($job->map('namespaces') as $position => $namespace) {
            $kind->checkNamespace(is_string($namespace) ? $namespace : null, field: "namespaces[$position]");
        }
    }

    private static function checkFacet(string $by, Kind $kind): void
    {
        $faceted = array_diff(array_map(strval(...), array_keys($kind->indexes)), self::NOT_FACETED);
        if (!in_array($by, $faceted, true)) {
            $problem = '%s is none of the fields of kind %s with facets: %s';
            $shown = [Text::repr(Text::first($by, 80)), Text::repr($kind->name), implode(', ', $faceted)];
            throw new InvalidJob('by', vsprintf($problem, $shown));
        }
    }
}
