#!lua flags=allow-oom
-- Take back a read job whose caller waits no longer.
-- Invariant: nobody begins the job after this, and no reply to it is left or will be sent.
--
-- KEYS  arq queue, arq job, reply
-- ARGV  arq job id
redis.call('DEL', KEYS[2], KEYS[3])
return redis.call('ZREM', KEYS[1], ARGV[1])
