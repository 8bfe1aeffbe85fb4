<?php

declare(strict_types=1);

namespace MemoryWorker\Tests\Examples;

use MemoryWorker\Examples\IndexedFiles;
use PHPUnit\Framework\TestCase;

/** A real worker applies the jobs of one file and refuses those of another. */
final class IndexedFilesOnWorkerTest extends TestCase
{
    use RealWorker;

    private \PDO $database;

    protected function setUp(): void
    {
        if (!extension_loaded('pdo_sqlite')) {
            self::markTestSkipped('PHP has no pdo_sqlite');
        }
        $this->connect();
        $this->database = new \PDO('sqlite::memory:');
    }

    public function testOneFileIsIndexedAndOneFails(): void
    {
        $files = $this->indexOneWellAndOneBadly();
        self::assertSame(['pending', 'pending'], [$files->state(88), $files->state(89)]);

        $afterARestart = new IndexedFiles($this->queue, $this->database);
        self::eventually(function () use ($afterARestart): bool {
            $afterARestart->follow(timeout: 1);

            return $afterARestart->state(88) !== 'pending' && count($afterARestart->problems(89)) === 2;
        });
        self::assertSame(['indexed', 'failed'], [$files->state(88), $files->state(89)]);
        self::assertStringContainsString('invalid: vector', $files->problems(89)[0]);
    }

    public function testOutcomesThatWereLostAreAskedFor(): void
    {
        $redis = self::connection();
        $stream = self::prefix() . ':outcomes';
        $files = $this->indexOneWellAndOneBadly();
        $files->follow(timeout: 5);
        $files->index($this->user, 88, $this->chunks(88, $this->axis(0)));
        $this->apply('the last one');
        $redis->command(['XTRIM', $stream, 'MAXLEN', '0'], 5);
        $this->apply('one more');

        self::assertSame('pending', $files->state(88));
        self::assertSame(1, $files->follow(timeout: 5), 'all others are lost');
        self::assertSame('indexed', $files->state(88));
        self::assertStringContainsString('invalid', $files->problems(89)[1]);
    }

    private function indexOneWellAndOneBadly(): IndexedFiles
    {
        $files = new IndexedFiles($this->queue, $this->database);
        $files->index($this->user, 88, $this->chunks(88, $this->axis(0)));
        // The app believes that vectors have two numbers. The worker knows better, and keeps the jobs as dead letters.
        $mistaken = new IndexedFiles($this->queueForVectorsOf(2), $this->database);
        $mistaken->index($this->user, 89, $this->chunks(89, [1.0, 0.0]));

        return $files;
    }

    private function apply(string $ref): void
    {
        $this->queue->waitApplied($this->queue->purge($this->user, category: 'none', ref: $ref, notify: true), 20);
    }

    /**
     * @param list<float> $vector
     * @return list<array{point_id: string, vector: list<float>, payload: array<string, mixed>}>
     */
    private function chunks(int $file, array $vector): array
    {
        return array_map(fn (int $number): array => [
            'point_id' => "doc_{$this->user}_{$file}_$number",
            'vector' => $vector,
            'payload' => ['chunk_index' => $number],
        ], [0, 1]);
    }
}
