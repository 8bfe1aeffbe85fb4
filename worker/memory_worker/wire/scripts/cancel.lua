#!lua flags=allow-oom
-- Remove a read job whose caller has given up.
-- Invariant: after this no worker begins the job. No reply to it exists or will be sent.
--
-- KEYS  arq queue, arq job, reply
-- ARGV  arq job id
redis.call('DEL', KEYS[2], KEYS[3])
return redis.call('ZREM', KEYS[1], ARGV[1])
