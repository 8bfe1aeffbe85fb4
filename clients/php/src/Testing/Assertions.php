<?php

declare(strict_types=1);

namespace MemoryWorker\Testing;

use MemoryWorker\Job\WriteJob;
use PHPUnit\Framework\Assert;

/** @internal What a test says about the jobs that were pushed. With PHPUnit, these count as its assertions. */
trait Assertions
{
    /**
     * Assert that a job of this class was pushed.
     *
     * @template T of WriteJob
     * @param class-string<T> $class such as ``Upsert::class``
     * @param (callable(T): bool)|null $filter counts only the jobs for which it returns true
     * @param int|null $times how many there are; null: at least one
     */
    public function assertPushed(string $class, ?callable $filter = null, ?int $times = null): void
    {
        $count = count($this->matching($class, $filter));
        $isRight = $times === null ? $count > 0 : $count === $times;
        $expected = $times === null ? 'at least one' : (string) $times;
        self::that($isRight, "expected $expected of the jobs $class, but $count were pushed");
    }

    /**
     * Assert that no job of this class was pushed.
     *
     * @template T of WriteJob
     * @param class-string<T> $class
     * @param (callable(T): bool)|null $filter counts only the jobs for which it returns true
     */
    public function assertNotPushed(string $class, ?callable $filter = null): void
    {
        $this->assertPushed($class, $filter, 0);
    }

    public function assertNothingPushed(): void
    {
        $this->assertPushed(WriteJob::class, times: 0);
    }

    public function assertPushedCount(int $count): void
    {
        $this->assertPushed(WriteJob::class, times: $count);
    }

    /**
     * @template T of WriteJob
     * @param class-string<T> $class
     * @param (callable(T): bool)|null $filter
     * @return list<T>
     */
    private function matching(string $class, ?callable $filter): array
    {
        $jobs = $this->pushed($class);

        return $filter === null ? $jobs : array_values(array_filter($jobs, $filter));
    }

    private static function that(bool $isRight, string $problem): void
    {
        if (class_exists(Assert::class)) {
            Assert::assertTrue($isRight, $problem);
        } elseif (!$isRight) {
            throw new \AssertionError($problem);
        }
    }
}
