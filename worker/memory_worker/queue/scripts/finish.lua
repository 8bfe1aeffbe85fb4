#!lua flags=allow-oom
-- End drain jobs as arq ends jobs, and queue them again for the partitions that still have entries.
-- Invariant: a job that was pushed while its partition was being drained woke no worker. It is not forgotten.
--
-- KEYS  arq queue, wakeup list, then for each partition: stream, arq job, arq in-progress
-- ARGV  life of a drain job (ms), then for each partition: arq job id, arq job, when to wake a worker (ms from now; -1:
--       not at all, because another drain will do so)
-- use waking
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 3, #KEYS, 3 do
  local stream, job_key, in_progress = KEYS[i], KEYS[i + 1], KEYS[i + 2]
  local job_id, job, wake_after = ARGV[i - 1], ARGV[i], tonumber(ARGV[i + 1])
  redis.call('DEL', in_progress)
  if wake_after >= 0 and redis.call('XLEN', stream) > 0 then
    redis.call('SET', job_key, job, 'PX', ARGV[1])
    wake(KEYS[1], KEYS[2], job_id, now + wake_after, now)
  else
    redis.call('DEL', job_key)
    redis.call('ZREM', KEYS[1], job_id)
  end
end
return 1
