#!lua flags=allow-oom
-- Give a lease back.
-- Invariant: nobody's lease but the caller's own is removed.
--
-- KEYS  lease
-- ARGV  token
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
