<?php

/** As much of OpenTelemetry's API as the library calls. It records the spans. */

declare(strict_types=1);

namespace OpenTelemetry\API\Trace {
    final class SpanKind
    {
        public const KIND_CLIENT = 1;
        public const KIND_PRODUCER = 3;
    }

    final class StatusCode
    {
        public const STATUS_ERROR = 'Error';
    }

    final class Span
    {
        /** @var list<Span> */
        public static array $started = [];
        private static ?Span $current = null;
        /** @var array<string, mixed> */
        public array $attributes = [];
        public int $kind = 0;
        public string $status = 'Unset';
        public bool $hasEnded = false;
        private ?Span $before = null;

        public function __construct(public string $name, private string $id = '', public ?string $state = null)
        {
        }

        public static function getCurrent(): self
        {
            return self::$current ?? new self('none');
        }

        public function setSpanKind(int $kind): self
        {
            $this->kind = $kind;

            return $this;
        }

        public function setAttribute(string $name, mixed $value): self
        {
            $this->attributes[$name] = $value;

            return $this;
        }

        public function setStatus(string $code): self
        {
            $this->status = $code;

            return $this;
        }

        public function startSpan(): self
        {
            self::$started[] = $this;

            return $this;
        }

        public function activate(): self
        {
            [$this->before, self::$current] = [self::$current, $this];

            return $this;
        }

        public function detach(): void
        {
            self::$current = $this->before;
        }

        public function end(): void
        {
            $this->hasEnded = true;
        }

        public function getContext(): self
        {
            return $this;
        }

        public function isValid(): bool
        {
            return $this->id !== '';
        }

        public function getTraceId(): string
        {
            return str_repeat('a', 32);
        }

        public function getSpanId(): string
        {
            return $this->id;
        }

        public function getTraceFlags(): int
        {
            return 1;
        }

        public function getTraceState(): ?string
        {
            return $this->state;
        }
    }
}

namespace OpenTelemetry\API {
    use OpenTelemetry\API\Trace\Span;

    final class Globals
    {
        public static function tracerProvider(): self
        {
            return new self();
        }

        public function getTracer(string $name): self
        {
            return $this;
        }

        public function spanBuilder(string $name): Span
        {
            return new Span($name, sprintf('%016x', count(Span::$started) + 1));
        }
    }
}
