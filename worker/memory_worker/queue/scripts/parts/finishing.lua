-- End the drain job of a partition as arq ends a job. If the partition has entries left, queue the job again, and wake a
-- worker after so many ms (-1: not at all, because another drain will do so).
-- `job` has the keys `key` and `in_progress`, the `id`, the `body` and the `life` (ms) of the job.
-- use waking
local function finish(queue, wakeup, left, job, wake_after, now)
  if wake_after >= 0 and left > 0 then
    redis.call('DEL', job.in_progress)
    redis.call('SET', job.key, job.body, 'PX', job.life)
    wake(queue, wakeup, job.id, now + wake_after, now)
  else
    redis.call('DEL', job.in_progress, job.key)
    redis.call('ZREM', queue, job.id)
  end
end
