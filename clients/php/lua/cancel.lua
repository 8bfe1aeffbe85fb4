#!lua flags=allow-oom
-- Take back a read job whose caller has stopped waiting.
-- Invariant: afterwards no worker begins the job, and no reply to it is kept or sent.
--
-- KEYS  mw:search, arq:job:ID, mw:reply:ID, mw:search:calls
-- ARGV  arq job id, the job's item of the list of calls, life of the job (ms)
-- Returns 1 if the job was still in a queue, else 0.
redis.call('DEL', KEYS[2], KEYS[3])
if redis.call('ZREM', KEYS[1], ARGV[1]) + redis.call('LREM', KEYS[4], -1, ARGV[2]) > 0 then
  return 1
end
-- A worker has taken the job from the list. It cannot push the reply to a key of another type.
redis.call('SET', KEYS[3], '', 'PX', ARGV[3])
return 0
