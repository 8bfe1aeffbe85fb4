#!lua flags=allow-oom
-- End drain jobs as arq ends jobs, and queue them again for the partitions that still have entries.
-- Invariant: a job that was pushed while its partition was being drained woke no worker. It is not forgotten.
--
-- KEYS  arq queue, wakeup list, then for each partition: stream, arq job, arq in-progress
-- ARGV  life of a drain job (ms), then for each partition: arq job id, arq job, when to wake a worker (ms from now; -1:
--       not at all, because another drain will do so)
-- use finishing
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 3, #KEYS, 3 do
  local job = {key = KEYS[i + 1], in_progress = KEYS[i + 2], id = ARGV[i - 1], body = ARGV[i], life = ARGV[1]}
  finish(KEYS[1], KEYS[2], redis.call('XLEN', KEYS[i]), job, tonumber(ARGV[i + 1]), now)
end
return 1
