-- Enqueue a read job for the search role, as arq would.
--
-- KEYS  arq queue, arq job
-- ARGV  arq job id, arq job, life of the job (ms)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[1], now, ARGV[1])
return now
