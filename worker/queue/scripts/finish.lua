#!lua flags=allow-oom
-- End a drain as arq ends a job, and ring its partition's doorbell again if entries wait.
-- Invariant: what was pushed while the drain ran, and so rang no doorbell, is not forgotten.
--
-- KEYS  stream, arq queue, arq job, arq in-progress, bell
-- ARGV  arq job id, arq job, life of a doorbell (ms), delay (ms; less than 0: somebody else will ring)
redis.call('DEL', KEYS[3], KEYS[4])
redis.call('ZREM', KEYS[2], ARGV[1])
local delay = tonumber(ARGV[4])
if delay < 0 or redis.call('XLEN', KEYS[1]) == 0 then
  return 0
end
redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3])
local time = redis.call('TIME')
redis.call('ZADD', KEYS[2], time[1] * 1000 + math.floor(time[2] / 1000) + delay, ARGV[1])
if delay == 0 and redis.call('LLEN', KEYS[5]) == 0 then
  redis.call('RPUSH', KEYS[5], 1)
end
return 1
