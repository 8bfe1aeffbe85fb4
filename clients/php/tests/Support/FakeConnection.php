<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Support;

use MemoryWorker\Redis\BrokenConnection;
use MemoryWorker\Redis\Connection;
use MemoryWorker\Redis\ErrorReply;

/** A fake Redis. It returns the configured replies and records the commands. */
final class FakeConnection implements Connection
{
    /** @var list<non-empty-list<string>> */
    public array $commands = [];
    /** @var list<string|\Throwable|null> answers to the next scripts, in place of the usual ones: errors, or null */
    public array $failures = [];
    /** @var list<string> commands that get the answer to another command once, before a reconnect */
    public array $outOfStep = [];
    public int $reconnects = 0;
    public ?string $reply = '{"ok":true}';
    /** @var list<mixed> */
    public array $states = ['1', [['99999999999999-0', '']], [[]]];
    /** @var list<mixed> */
    public array $outcomes = [];
    public int $replicas = 0;
    /** How much higher the partitions of receipts are than those of the jobs. */
    public int $overflow = 0;
    private int $ids = 0;

    /** @var array<string, string> the fields of ``mw:paused`` */
    public array $paused = [];

    /** @param array<string, string> $meta the fields of ``mw:meta`` */
    public function __construct(public array $meta = [])
    {
    }

    public function command(array $words, float $timeout): mixed
    {
        $this->commands[] = $words;
        if (in_array($words[0], $this->outOfStep, true)) {
            return ['an', 'answer', 'to', 'another', 'command'];
        }

        return match ($words[0]) {
            'HMGET' => $this->fields(str_ends_with($words[1], ':paused') ? $this->paused : $this->meta, $words),
            'TIME' => ['1732000000', '0'],
            'EVALSHA' => $this->script($words),
            'BLPOP' => $this->reply === null ? null : [$words[1], $this->reply],
            'WAIT' => $this->replicas,
            'XREAD' => $this->outcomes === [] ? null : [[$words[2], $this->outcomes]],
            'XRANGE' => [],
            'GET' => null,
            default => throw new \LogicException("no answer to $words[0]"),
        };
    }

    /**
     * @param array<string, string> $hash
     * @param non-empty-list<string> $words
     * @return list<string|null>
     */
    private function fields(array $hash, array $words): array
    {
        return array_map(static fn (string $name): ?string => $hash[$name] ?? null, array_slice($words, 2));
    }

    public function reconnect(): void
    {
        $this->reconnects++;
        $this->outOfStep = [];
    }

    /**
     * Return the jobs of all pushes: the partition, the version, the encoded job and the user id of each.
     *
     * @return list<array{int, int, string, string}>
     */
    public function pushed(): array
    {
        return array_merge(...array_map(
            static fn (array $words): array => self::jobsOf(self::split($words)[1]),
            $this->scripts('push'),
        ));
    }

    /**
     * @param list<string> $args the arguments of a push
     * @return list<array{int, int, string, string}>
     */
    private static function jobsOf(array $args): array
    {
        $jobs = [];
        foreach (array_chunk(array_slice($args, 6 + 4 * (int) $args[5]), 4) as [$place, $version, $userId, $body]) {
            $jobs[] = [(int) $args[6 + 4 * ((int) $place - 1)], (int) $version, $body, $userId];
        }

        return $jobs;
    }

    /**
     * Return the arq jobs of all calls, encoded.
     *
     * @return list<string>
     */
    public function called(): array
    {
        return array_map(static fn (array $words): string => self::split($words)[1][1], $this->scripts('call'));
    }

    /** @return list<list<string>> */
    public function scripts(string $name): array
    {
        $digest = sha1_file(dirname(__DIR__, 2) . "/lua/$name.lua");

        return array_values(array_filter(
            $this->commands,
            static fn (array $words): bool => $words[0] === 'EVALSHA' && $words[1] === $digest,
        ));
    }

    /**
     * @param list<string> $words
     * @return array{list<string>, list<string>} keys and arguments
     */
    public static function split(array $words): array
    {
        return [array_slice($words, 3, (int) $words[2]), array_slice($words, 3 + (int) $words[2])];
    }

    /** @param list<string> $words */
    private function script(array $words): mixed
    {
        $failure = array_shift($this->failures);
        if ($failure !== null) {
            throw $failure instanceof \Throwable ? $failure : new ErrorReply($failure);
        }
        foreach (['push', 'call', 'cancel', 'states'] as $name) {
            if ($words[1] === sha1_file(dirname(__DIR__, 2) . "/lua/$name.lua")) {
                [, $args] = self::split($words);

                return match ($name) {
                    'push' => array_map(
                        fn (array $job): string => $job[0] + $this->overflow . '/1732000000000-' . $this->ids++,
                        self::jobsOf($args),
                    ),
                    'call' => "1732000000000.000 $args[0] ",
                    'cancel' => 1,
                    'states' => $this->states,
                };
            }
        }
        throw new BrokenConnection("no script has the digest $words[1]");
    }
}
