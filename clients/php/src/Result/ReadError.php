<?php

declare(strict_types=1);

namespace MemoryWorker\Result;

/**
 * The reason why a read has no answer: a code and a message.
 *
 * The codes are ``invalid``, ``too_large``, ``unavailable``, ``timeout``, ``not_applied`` and ``internal``.
 */
final class ReadError
{
    public function __construct(
        public readonly string $code,
        public readonly string $message,
    ) {
    }
}
