#!lua flags=allow-oom
-- Take back a read job whose caller has stopped waiting.
-- Invariant: afterwards no worker begins the job, and no reply to it is kept or sent.
--
-- KEYS  mw:search, arq:job:ID, mw:reply:ID
-- ARGV  arq job id
-- Returns 1 if the job was still in the queue, else 0.
redis.call('DEL', KEYS[2], KEYS[3])
return redis.call('ZREM', KEYS[1], ARGV[1])
