#!lua flags=allow-oom
-- Elect a leader. The first to ask becomes the leader, and remains so while it asks again in time.
-- Invariant: at most one token is the leader.
--
-- KEYS  leader
-- ARGV  token, life of the leadership (ms)
-- Returns 1 for the leader, 0 for all others.
local leader = redis.call('GET', KEYS[1])
if leader and leader ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
