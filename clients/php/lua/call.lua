#!lua flags=allow-oom
-- Enqueue a read job: in the list of calls if a worker takes jobs from there, else in arq's queue.
-- Invariant: either the job is stored and due, or nothing is stored and an error says why.
--
-- KEYS  mw:search, arq:job:ID, mw:meta, mw:search:wakeup, mw:search:calls, mw:search:taker, mw:reply:ID
-- ARGV  arq job id, arq job, life of the job (ms)
-- Returns what comes before the arq job in its item of the list of calls: the time of the push (unix ms by Redis's
-- clock) and the arq job id, each with a space behind it.
local REFUSED_MS = 1000
local max_reads = tonumber(redis.call('HGET', KEYS[3], 'max_reads') or 0)
if max_reads > 0 and redis.call('ZCARD', KEYS[1]) + redis.call('LLEN', KEYS[5]) >= max_reads then
  -- A caller that already waits for the reply gets an error, because the key is not a list.
  redis.call('SET', KEYS[7], '', 'PX', REFUSED_MS)
  return redis.error_reply('QUEUEFULL reads ' .. max_reads)
end
local time = redis.call('TIME')
local now = string.format('%.3f', time[1] * 1000 + time[2] / 1000)
local head = now .. ' ' .. ARGV[1] .. ' '
if redis.call('EXISTS', KEYS[6]) == 1 then
  -- The list expires with the job in it that lives longest.
  if redis.call('RPUSH', KEYS[5], head .. ARGV[2]) == 1 then
    redis.call('PEXPIRE', KEYS[5], ARGV[3])
  else
    redis.call('PEXPIRE', KEYS[5], ARGV[3], 'GT')
  end
  return head
end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('ZADD', KEYS[1], now, ARGV[1])
if redis.call('LLEN', KEYS[4]) == 0 then
  redis.call('RPUSH', KEYS[4], 1)
end
return head
