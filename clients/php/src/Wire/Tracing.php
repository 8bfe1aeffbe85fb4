<?php

declare(strict_types=1);

namespace MemoryWorker\Wire;

use OpenTelemetry\API\Globals;
use OpenTelemetry\API\Trace\Span;
use OpenTelemetry\API\Trace\SpanKind;
use OpenTelemetry\API\Trace\StatusCode;

/**
 * @internal Spans, and the trace context that travels with each job. Without OpenTelemetry there are none.
 *
 * A trace context is text: the ``traceparent`` of W3C Trace Context, then a space and its ``tracestate`` if there is one.
 */
final class Tracing
{
    private const SYSTEM = 'memory_worker';
    private const MAX_LENGTH = 568;

    /** Return the trace context of the current span, or an empty string if there is no span. */
    public static function context(): string
    {
        if (!class_exists(Span::class)) {
            return '';
        }
        $context = Span::getCurrent()->getContext();
        if (!$context->isValid()) {
            return '';
        }
        $parent = sprintf('00-%s-%s-%02x', $context->getTraceId(), $context->getSpanId(), $context->getTraceFlags());
        $whole = rtrim($parent . ' ' . ($context->getTraceState() ?? ''));

        return strlen($whole) <= self::MAX_LENGTH ? $whole : $parent;
    }

    /** Name the message that is sent in the current span. */
    public static function name(string $id): void
    {
        if (class_exists(Span::class)) {
            Span::getCurrent()->setAttribute('messaging.message.id', $id);
        }
    }

    /**
     * Record a span in which ``$count`` messages are sent, or answered if ``$isCall``, while ``$work`` runs.
     *
     * @template T
     * @param callable(): T $work
     * @return T
     */
    public static function sending(string $operation, string $queue, int $count, bool $isCall, callable $work): mixed
    {
        if (!class_exists(Globals::class)) {
            return $work();
        }
        $builder = Globals::tracerProvider()->getTracer(self::SYSTEM)->spanBuilder("$operation $queue");
        $builder->setSpanKind($isCall ? SpanKind::KIND_CLIENT : SpanKind::KIND_PRODUCER);
        $builder->setAttribute('messaging.system', self::SYSTEM);
        $builder->setAttribute('messaging.operation.name', $operation);
        $builder->setAttribute('messaging.operation.type', 'send');
        $builder->setAttribute('messaging.destination.name', $queue);
        if ($count > 1) {
            $builder->setAttribute('messaging.batch.message_count', $count);
        }
        $span = $builder->startSpan();
        $scope = $span->activate();
        try {
            return $work();
        } catch (\Throwable $error) {
            $span->setAttribute('error.type', $error::class);
            $span->setStatus(StatusCode::STATUS_ERROR);
            throw $error;
        } finally {
            $scope->detach();
            $span->end();
        }
    }
}
