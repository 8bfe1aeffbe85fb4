<?php

declare(strict_types=1);

namespace MemoryWorker\Wire;

/** @internal The Lua scripts, which are exact copies of those of the worker. */
enum Script: string
{
    case Push = 'push';
    case Call = 'call';
    case Cancel = 'cancel';
    case States = 'states';

    public function source(): string
    {
        /** @var array<string, string> $sources */
        static $sources = [];

        return $sources[$this->value] ??= (string) file_get_contents(self::directory() . "/$this->value.lua");
    }

    /** Return the name under which Redis knows the script once it has loaded it. */
    public function digest(): string
    {
        /** @var array<string, string> $digests */
        static $digests = [];

        return $digests[$this->value] ??= sha1($this->source());
    }

    private static function directory(): string
    {
        return dirname(__DIR__, 2) . '/lua';
    }
}
