#!lua flags=allow-oom
-- Ring a partition's doorbell, if anything waits in it and the doorbell has not been rung.
--
-- KEYS  stream, arq queue, arq job, bell
-- ARGV  arq job id, arq job, life of a doorbell (ms), delay (ms)
if redis.call('XLEN', KEYS[1]) == 0 then
  return 0
end
if not redis.call('SET', KEYS[3], ARGV[2], 'PX', ARGV[3], 'NX') then
  return 0
end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[2], time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[4], ARGV[1])
if ARGV[4] == '0' and redis.call('LLEN', KEYS[4]) == 0 then
  redis.call('RPUSH', KEYS[4], 1)
end
return 1
