#!lua flags=allow-oom
-- Take read jobs, oldest first: who takes a job answers it, or nobody does and its caller gives up.
-- Invariant: a job is given to one taker at most. While any are left, somebody is woken for them. Until it is answered a
-- job stays in the queue, as one that is due later: arq's own callers look there.
--
-- KEYS  arq queue, wakeup list
-- ARGV  most jobs, what stands before a job's id in the name of its key, for how long it stays in the queue (ms)
-- Returns for each job that is still there: id, since when it was due (ms), the job.
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, tonumber(ARGV[1]))
local found = {}
for i = 1, #due, 2 do
  local body = redis.pcall('GET', ARGV[2] .. due[i])
  if type(body) == 'string' then
    redis.call('DEL', ARGV[2] .. due[i])
    redis.call('ZADD', KEYS[1], now + ARGV[3], due[i])
    found[#found + 1] = due[i]
    found[#found + 1] = due[i + 1]
    found[#found + 1] = body
  else
    -- It has expired, or may not be read: nobody can answer it.
    redis.call('ZREM', KEYS[1], due[i])
  end
end
if redis.call('ZCOUNT', KEYS[1], '-inf', now) > 0 and redis.call('LLEN', KEYS[2]) == 0 then
  redis.call('RPUSH', KEYS[2], 1)
end
return found
