<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Support;

/** A value of a golden file that PHP does not have. */
final class NotInPhp extends \RuntimeException
{
}
