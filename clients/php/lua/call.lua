#!lua flags=allow-oom
-- Enqueue a read job and wake a search worker.
-- Invariant: either the job is stored and due, or nothing is stored and an error says why.
--
-- KEYS  mw:search, arq:job:ID, mw:meta, mw:search:wakeup
-- ARGV  arq job id, arq job, life of the job (ms)
-- Returns the time of the push (unix ms by Redis's clock).
local max_reads = tonumber(redis.call('HGET', KEYS[3], 'max_reads') or 0)
if max_reads > 0 and redis.call('ZCARD', KEYS[1]) >= max_reads then
  return redis.error_reply('QUEUEFULL reads ' .. max_reads)
end
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[1], now, ARGV[1])
if redis.call('LLEN', KEYS[4]) == 0 then
  redis.call('RPUSH', KEYS[4], 1)
end
return now
