-- Ring the doorbell whose job is there, to be heard at `due`; whoever waits at the bell is woken only if that is now.
local function ring(queue, bell, job_id, due, now)
  redis.call('ZADD', queue, due, job_id)
  if due <= now and redis.call('LLEN', bell) == 0 then
    redis.call('RPUSH', bell, 1)
  end
end
