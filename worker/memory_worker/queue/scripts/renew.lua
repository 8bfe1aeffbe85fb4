#!lua flags=allow-oom
-- Renew leases.
-- Invariant: only the holder renews a lease. An expired lease stays expired. Either all of the leases are renewed or
-- none.
--
-- KEYS  for each partition: lease
-- ARGV  life of a lease (ms), then for each partition: token
for i, lease in ipairs(KEYS) do
  if redis.call('GET', lease) ~= ARGV[i + 1] then
    return redis.error_reply('LEASELOST')
  end
end
for _, lease in ipairs(KEYS) do
  redis.call('PEXPIRE', lease, ARGV[1])
end
return 1
