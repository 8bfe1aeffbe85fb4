<?php

declare(strict_types=1);

namespace MemoryWorker;

/**
 * The default of arguments that narrow a request: the argument was not given.
 *
 * Null does not mean that. It is refused, so that an id that is missing by mistake cannot reach everything.
 */
enum Absent
{
    case Field;
}
