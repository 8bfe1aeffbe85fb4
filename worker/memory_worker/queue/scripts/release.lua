#!lua flags=allow-oom
-- Release a lease at the end of a drain, and record that its process is alive.
-- Invariant: only the caller's own lease is released.
--
-- KEYS  lease, attempts
-- ARGV  token, how long the lease must still be held (ms; 0: not at all), id of the process
-- use attempts
local holds_lease = redis.call('GET', KEYS[1]) == ARGV[1]
end_attempt(KEYS[2], ARGV[3], holds_lease)
if not holds_lease then
  return 0
end
if ARGV[2] ~= '0' then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return redis.call('DEL', KEYS[1])
