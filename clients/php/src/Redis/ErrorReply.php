<?php

declare(strict_types=1);

namespace MemoryWorker\Redis;

/** @internal Redis answers with an error. The message is that of Redis, such as ``READONLY You can't write ...``. */
final class ErrorReply extends \RuntimeException
{
    /** Return the first word of the message, which says what kind of error it is. */
    public function word(): string
    {
        return explode(' ', $this->getMessage(), 2)[0];
    }
}
