#!lua flags=allow-oom
-- Take the lease of a partition.
-- Invariant: at most one token holds it. Asking again with the same token (the reply was lost) takes it once.
--
-- KEYS  lease, claims
-- ARGV  token, life of the lease (ms)
-- Returns nothing where another token holds it, else the number of claims of the partition's dead letters.
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) or redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('HLEN', KEYS[2])
end
return false
