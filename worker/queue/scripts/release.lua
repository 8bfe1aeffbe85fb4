#!lua flags=allow-oom
-- Give a lease back, and note that its drain came to an end alive.
-- Invariant: nobody's lease but the caller's own is removed.
--
-- KEYS  lease, attempts
-- ARGV  token
if redis.call('HGET', KEYS[2], 'token') == ARGV[1] then
  redis.call('HDEL', KEYS[2], 'head', 'last', 'tries', 'token')
end
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
