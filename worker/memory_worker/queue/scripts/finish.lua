#!lua flags=allow-oom
-- End drains as arq ends jobs, and ring the drain jobs of those partitions in which entries wait.
-- Invariant: what was pushed while a drain ran, and so rang no doorbell, is not forgotten.
--
-- KEYS  arq queue, wakeup list, then for each partition: stream, arq job, arq in-progress
-- ARGV  life of a drain job (ms), then for each partition: arq job id, arq job, delay (ms; less than 0: somebody else
--       will ring)
-- use waking
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 3, #KEYS, 3 do
  local stream, job_key, in_progress = KEYS[i], KEYS[i + 1], KEYS[i + 2]
  local job_id, job, delay = ARGV[i - 1], ARGV[i], tonumber(ARGV[i + 1])
  redis.call('DEL', in_progress)
  if delay >= 0 and redis.call('XLEN', stream) > 0 then
    redis.call('SET', job_key, job, 'PX', ARGV[1])
    wake(KEYS[1], KEYS[2], job_id, now + delay, now)
  else
    redis.call('DEL', job_key)
    redis.call('ZREM', KEYS[1], job_id)
  end
end
return 1
