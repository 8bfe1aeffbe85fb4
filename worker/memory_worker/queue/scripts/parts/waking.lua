-- Queue the drain job of a partition for the time `due`. Wake a worker only if this is now.
local function wake(queue, wakeup, job_id, due, now)
  redis.call('ZADD', queue, due, job_id)
  if due <= now and redis.call('LLEN', wakeup) == 0 then
    redis.call('RPUSH', wakeup, 1)
  end
end
