#!lua flags=allow-oom
-- End the pause, and wake a worker. Its claim wakes the next one if it leaves drain jobs that are due.
-- Invariant: the drain jobs of a pause are in their queue, because no claim has taken them.
--
-- KEYS  paused, wakeup list
-- Returns the pause that has ended: unix ms, author, reason. Nothing if there was none.
local pause = redis.call('EXISTS', KEYS[1]) == 1 and redis.call('HMGET', KEYS[1], 'since', 'by', 'reason')
redis.call('DEL', KEYS[1])
if redis.call('LLEN', KEYS[2]) == 0 then
  redis.call('RPUSH', KEYS[2], 1)
end
return pause
