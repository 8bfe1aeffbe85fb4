#!lua flags=allow-oom
-- Fix the number of partitions at first use, and publish the limits that producers must keep.
-- Invariant: the number of partitions never changes here; a limit of 0 is no limit.
--
-- KEYS  meta
-- ARGV  partitions, then pairs: name of a limit, limit
redis.call('HSETNX', KEYS[1], 'partitions', ARGV[1])
local fixed = redis.call('HGET', KEYS[1], 'partitions')
if fixed ~= ARGV[1] then
  return redis.error_reply('PARTITIONS ' .. fixed)
end
for i = 2, #ARGV, 2 do
  if ARGV[i + 1] == '0' then
    redis.call('HDEL', KEYS[1], ARGV[i])
  else
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
return 1
