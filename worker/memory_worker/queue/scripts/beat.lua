#!lua flags=allow-oom
-- Record that a worker process lives, for as long as it says so again in time.
-- Invariant: a process that is listed with a score that lies ahead has its own key; the life of that is never cut.
--
-- KEYS  list of processes, key of this process
-- ARGV  member of the list, role, time to live (ms)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local left = redis.call('PTTL', KEYS[2])
redis.call('SET', KEYS[2], ARGV[2], 'PX', math.max(left, tonumber(ARGV[3])))
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
return 1
