<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Support;

enum Level: string
{
    case High = 'high';
}
