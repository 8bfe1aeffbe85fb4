#!lua flags=allow-oom
-- Pause the queue. A pause that is in force keeps its time and its author. A new reason replaces the one before.
-- Invariant: once this has run, no drain gets a partition and no drain reads entries, until the queue is resumed.
--
-- KEYS  paused
-- ARGV  author, reason (empty: none is given)
-- Returns the pause: unix ms, author, reason.
if redis.call('EXISTS', KEYS[1]) == 0 then
  local time = redis.call('TIME')
  redis.call('HSET', KEYS[1], 'since', time[1] * 1000 + math.floor(time[2] / 1000), 'by', ARGV[1], 'reason', ARGV[2])
elseif ARGV[2] ~= '' then
  redis.call('HSET', KEYS[1], 'reason', ARGV[2])
end
return redis.call('HMGET', KEYS[1], 'since', 'by', 'reason')
