#!lua flags=allow-oom
-- Record that a worker process is alive. The record expires unless it is renewed in time.
-- Invariant: if the score of a listed process is in the future, the key of this process exists. The life of the key is
-- never shortened.
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
