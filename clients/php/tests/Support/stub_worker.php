<?php

declare(strict_types=1);

// Answers read jobs on the queue of a prefix, until it is ended: php stub_worker.php PORT PREFIX DELAY_MS
// A count is answered by the id of its user, and everything else by an empty reply.

namespace MemoryWorker\Tests\Support;

require __DIR__ . '/../bootstrap.php';

[, $port, $prefix, $delayMs] = $argv;
$library = (string) array_key_first(Servers::libraries());
$redis = Servers::connection($library, Servers::factory($library, (int) $port));
while (true) {
    $redis->command(['BLPOP', "$prefix:search:wakeup", '1'], 5.0);
    $found = $redis->command(['ZRANGE', "$prefix:search", '0', '-1'], 5.0);
    foreach (is_array($found) ? $found : [] as $id) {
        $record = MessagePackReader::decode((string) $redis->command(['GET', "arq:job:$id"], 5.0));
        $redis->command(['ZREM', "$prefix:search", $id], 5.0);
        usleep((int) $delayMs * 1000);
        $answer = $record->f === 'count' ? ['ok' => true, 'count' => $record->a[0]->user_id] : ['ok' => true];
        $redis->command(['RPUSH', $record->k->reply_to, (string) json_encode($answer)], 5.0);
    }
}
