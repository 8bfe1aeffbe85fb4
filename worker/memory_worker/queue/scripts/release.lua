#!lua flags=allow-oom
-- Give a lease back, and note that its drain came to an end alive.
-- Invariant: nobody's lease but the caller's own is removed.
--
-- KEYS  lease, attempts
-- ARGV  token, for how long it must still be held (ms; 0: not at all)
if redis.call('HGET', KEYS[2], 'token') == ARGV[1] then
  redis.call('HDEL', KEYS[2], 'head', 'last', 'tries', 'token')
end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if ARGV[2] ~= '0' then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return redis.call('DEL', KEYS[1])
