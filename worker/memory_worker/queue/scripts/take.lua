#!lua flags=allow-oom
-- Take read jobs from arq's queue, oldest first. If the worker that took a job dies, the job is not repeated and its
-- caller gives up. Clients learn here that a worker takes jobs from the list of calls, too.
-- Invariant: a job is given to at most one worker. If due jobs are left, another worker is woken. Until it is answered,
-- a job stays in the queue with a later due time, because arq's own callers expect it there. A write is not given to
-- anyone, but moved to the queue of writes.
--
-- KEYS  arq queue, wakeup list, queue of writes, the key that exists while a worker takes calls
-- ARGV  most jobs, prefix of the keys of jobs, how long a job stays in the queue (ms), life of the last key (ms), then
--       the ops of writes
-- Returns how many writes were moved, then for each job that still exists: id, due time (ms), job.
local HEAD = 64
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local is_write = {}
for i = 5, #ARGV do
  is_write[ARGV[i]] = true
end

-- Return the function of a job of arq's client, which writes it before the arguments, in MessagePack or JSON.
local function function_of(job)
  local head = string.sub(job, 1, HEAD)
  return string.match(head, '\161f[\160-\191]([%l_]+)') or string.match(head, '"f":%s*"([%l_]+)"')
end

if redis.call('PTTL', KEYS[4]) < ARGV[4] / 2 then
  redis.call('SET', KEYS[4], 1, 'PX', ARGV[4])
end
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, tonumber(ARGV[1]))
local found = {0}
for i = 1, #due, 2 do
  local job_id, due_at = due[i], due[i + 1]
  local job = redis.pcall('GET', ARGV[2] .. job_id)
  if type(job) ~= 'string' then
    -- The job cannot be answered: it has expired, or its key is not a string.
    redis.call('ZREM', KEYS[1], job_id)
  elseif is_write[function_of(job)] then
    redis.call('ZADD', KEYS[3], 'NX', due_at, job_id)
    redis.call('ZREM', KEYS[1], job_id)
    found[1] = found[1] + 1
  else
    redis.call('DEL', ARGV[2] .. job_id)
    redis.call('ZADD', KEYS[1], now + ARGV[3], job_id)
    local at = #found
    found[at + 1], found[at + 2], found[at + 3] = job_id, due_at, job
  end
end
if redis.call('ZCOUNT', KEYS[1], '-inf', now) > 0 and redis.call('LLEN', KEYS[2]) == 0 then
  redis.call('RPUSH', KEYS[2], 1)
end
return found
