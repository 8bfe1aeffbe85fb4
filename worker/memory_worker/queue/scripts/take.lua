#!lua flags=allow-oom
-- Take read jobs, oldest first. If the worker that took a job dies, the job is not repeated and its caller gives up.
-- Invariant: a job is given to at most one worker. If due jobs are left, another worker is woken. Until it is answered,
-- a job stays in the queue with a later due time, because arq's own callers expect it there.
--
-- KEYS  arq queue, wakeup list
-- ARGV  most jobs, prefix of the keys of jobs, how long a job stays in the queue (ms)
-- Returns for each job that still exists: id, due time (ms), job.
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, tonumber(ARGV[1]))
local found = {}
for i = 1, #due, 2 do
  local job_id, due_at = due[i], due[i + 1]
  local job = redis.pcall('GET', ARGV[2] .. job_id)
  if type(job) == 'string' then
    redis.call('DEL', ARGV[2] .. job_id)
    redis.call('ZADD', KEYS[1], now + ARGV[3], job_id)
    found[#found + 1], found[#found + 2], found[#found + 3] = job_id, due_at, job
  else
    -- The job cannot be answered: it has expired, or its key is not a string.
    redis.call('ZREM', KEYS[1], job_id)
  end
end
if redis.call('ZCOUNT', KEYS[1], '-inf', now) > 0 and redis.call('LLEN', KEYS[2]) == 0 then
  redis.call('RPUSH', KEYS[2], 1)
end
return found
