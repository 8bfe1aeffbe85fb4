#!lua flags=allow-oom
-- Take the lease of a partition.
-- Invariant: at most one token holds it. Asking again with the same token (the reply was lost) takes it once.
--
-- KEYS  lease
-- ARGV  token, life of the lease (ms)
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) or redis.call('GET', KEYS[1]) == ARGV[1] then
  return 1
end
return 0
