#!lua flags=allow-oom
-- Renew a lease.
-- Invariant: only the holder renews a lease. An expired lease stays expired.
--
-- KEYS  lease
-- ARGV  token, life of the lease (ms)
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('LEASELOST')
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
