<?php

declare(strict_types=1);

namespace MemoryWorker\Examples;

use MemoryWorker\Exception\MemoryWorkerError;
use MemoryWorker\JobState;
use MemoryWorker\Outcome;
use MemoryWorker\Queue;
use MemoryWorker\Receipt;

/**
 * The table of an app's files, in which a file is `pending`, `indexed` or `failed`.
 *
 * `index` pushes a file, and `follow` reads what became of the jobs of all files. `follow` runs in a loop of one process.
 * It continues where it was, because the id of the last outcome is stored in the same transaction as the states.
 *
 * A process that dies in `index` may leave a file `pending` for ever. Call `index` again for files that are `pending` for
 * too long.
 */
final class IndexedFiles
{
    private const TABLES = [
        'CREATE TABLE IF NOT EXISTS files (
            id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL, run TEXT NOT NULL UNIQUE, state TEXT NOT NULL,
            receipts TEXT NOT NULL, applied INTEGER NOT NULL)',
        'CREATE TABLE IF NOT EXISTS problems (
            run TEXT NOT NULL, job TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (run, job))',
        'CREATE TABLE IF NOT EXISTS last_outcome (only_row INTEGER PRIMARY KEY, id TEXT NOT NULL)',
    ];
    private const STATES_AT_ONCE = 1000;

    public function __construct(private readonly Queue $queue, private readonly \PDO $database)
    {
        $database->setAttribute(\PDO::ATTR_ERRMODE, \PDO::ERRMODE_EXCEPTION);
        foreach (self::TABLES as $table) {
            $database->exec($table);
        }
    }

    /**
     * Push all chunks of a file. The file is `pending` until `follow` reads the outcome.
     *
     * The row of the run is there before the push, so that no outcome comes too early.
     *
     * @param list<array{point_id: string, vector: string|list<float>, payload: array<array-key, mixed>}> $chunks
     * @throws MemoryWorkerError if the push was not accepted; the file is `failed`, and a new run repairs it
     */
    public function index(int $userId, int $fileId, array $chunks): void
    {
        $version = (int) (microtime(true) * 1000);
        $run = "file $fileId run $version";
        $this->transaction(function () use ($userId, $fileId, $run): void {
            $this->run('DELETE FROM problems WHERE run = (SELECT run FROM files WHERE id = ?)', $fileId);
            $this->run("REPLACE INTO files VALUES (?, ?, ?, 'pending', '', 0)", $fileId, $userId, $run);
        });
        try {
            $receipts = $this->queue->replaceFile(
                userId: $userId,
                fileId: $fileId,
                chunks: $chunks,
                version: $version,
                ref: $run,
                notify: true,
            );
        } catch (MemoryWorkerError $error) {
            $this->problem($run, 'push', $error->getMessage());
            throw $error;
        }
        $this->run('UPDATE files SET receipts = ? WHERE run = ?', implode(' ', $receipts), $run);
    }

    /** Return `pending`, `indexed` or `failed`, or null if the file is unknown. */
    public function state(int $fileId): ?string
    {
        return $this->texts('SELECT state FROM files WHERE id = ?', $fileId)[0] ?? null;
    }

    /** @return list<string> why the file is `failed` */
    public function problems(int $fileId): array
    {
        return $this->texts('SELECT reason FROM problems JOIN files USING (run) WHERE id = ? ORDER BY job', $fileId);
    }

    /** Read the next outcomes, and wait for them for some seconds. Return how many there were. */
    public function follow(float $timeout): int
    {
        $last = $this->texts('SELECT id FROM last_outcome')[0] ?? null;
        $outcomes = $this->queue->outcomes(after: $last, timeout: $timeout);
        if ($outcomes === []) {
            return 0;
        }
        if ($outcomes[0]->gap) {
            $this->askForStates();
        }
        $this->transaction(function () use ($outcomes): void {
            foreach ($outcomes as $outcome) {
                $this->record($outcome);
            }
            $this->run('REPLACE INTO last_outcome VALUES (1, ?)', $outcomes[count($outcomes) - 1]->id);
        });

        return count($outcomes);
    }

    /**
     * Ask what became of the jobs of all files that are not indexed. `follow` does it after a gap in the outcomes. Do it
     * also from time to time, because a Redis that has lost its data has no outcomes at all.
     */
    public function askForStates(): void
    {
        foreach ($this->texts("SELECT run FROM files WHERE state <> 'indexed' AND receipts <> ''") as $run) {
            $receipts = explode(' ', $this->texts('SELECT receipts FROM files WHERE run = ?', $run)[0]);
            $states = [];
            foreach (array_chunk($receipts, self::STATES_AT_ONCE) as $some) {
                array_push($states, ...$this->queue->states(array_map(Receipt::parse(...), $some)));
            }
            $this->transaction(fn () => $this->recordStates($run, $states));
        }
    }

    /** @param list<JobState> $states of all jobs of a run, the last one at the end */
    private function recordStates(string $run, array $states): void
    {
        foreach ($states as $found) {
            $job = $found->receipt->entryId;
            match ($found->state) {
                'waiting' => null,
                'applied' => $this->solved($run, $job),
                'dead', 'unknown' => $this->problem($run, $job, trim("$found->state $found->reason $found->detail")),
            };
        }
        if ($states !== [] && $states[count($states) - 1]->state === 'applied') {
            $this->applied($run);
        }
    }

    /** All jobs of a run have its name as `ref`, and only the last one has `notify`. */
    private function record(Outcome $outcome): void
    {
        $run = (string) $outcome->ref;
        if ($outcome->outcome === 'dead') {
            $this->problem($run, $outcome->position, "$outcome->reason: $outcome->detail");
        } elseif ($outcome->outcome === 'applied' || $outcome->reason === 'purged') {
            // It may be the replay of a dead letter. A purge of the user has made others needless.
            $this->solved($run, $outcome->position);
            if ($outcome->op === 'prune') {
                $this->applied($run);
            }
        }
    }

    private function applied(string $run): void
    {
        $this->run('UPDATE files SET applied = 1 WHERE run = ?', $run);
        $this->update($run);
    }

    private function problem(string $run, string $job, string $reason): void
    {
        // An older run of the file has no row any more.
        $query = 'REPLACE INTO problems (job, reason, run) SELECT ?, ?, run FROM files WHERE run = ?';
        $this->run($query, $job, $reason, $run);
        $this->update($run);
    }

    private function solved(string $run, string $job): void
    {
        $this->run('DELETE FROM problems WHERE run = ? AND job = ?', $run, $job);
        $this->update($run);
    }

    private function update(string $run): void
    {
        $this->run("UPDATE files SET state = CASE
            WHEN EXISTS (SELECT 1 FROM problems WHERE problems.run = files.run) THEN 'failed'
            WHEN applied = 1 THEN 'indexed'
            ELSE 'pending' END WHERE run = ?", $run);
    }

    private function run(string $query, int|string ...$values): \PDOStatement
    {
        $statement = $this->database->prepare($query);
        $statement->execute($values);

        return $statement;
    }

    /** @return list<string> the texts in the only column of the rows */
    private function texts(string $query, int|string ...$values): array
    {
        $statement = $this->run($query, ...$values);
        $found = [];
        while (is_string($text = $statement->fetchColumn())) {
            $found[] = $text;
        }

        return $found;
    }

    private function transaction(\Closure $work): void
    {
        $this->database->beginTransaction();
        try {
            $work();
            $this->database->commit();
        } catch (\Throwable $error) {
            $this->database->rollBack();
            throw $error;
        }
    }
}
