#!lua flags=allow-oom
-- Publish the number of partitions, which is fixed at first use, and the limits of producers.
-- Invariant: the number of partitions never changes here. A limit of 0 means no limit.
--
-- KEYS  meta, since
-- ARGV  number of partitions, whether (0 or 1) to publish only missing limits, then pairs: name of a limit, limit
-- Returns how many limits were published.
redis.call('HSETNX', KEYS[1], 'partitions', ARGV[1])
local fixed = redis.call('HGET', KEYS[1], 'partitions')
if fixed ~= ARGV[1] then
  return redis.error_reply('PARTITIONS ' .. fixed)
end
local time = redis.call('TIME')
redis.call('HSETNX', KEYS[2], 'epoch', time[1] * 1000 + math.floor(time[2] / 1000))
local published = 0
for i = 3, #ARGV, 2 do
  local name, limit = ARGV[i], ARGV[i + 1]
  if ARGV[2] == '1' then
    published = published + (limit ~= '0' and redis.call('HSETNX', KEYS[1], name, limit) or 0)
  elseif limit == '0' then
    redis.call('HDEL', KEYS[1], name)
  else
    redis.call('HSET', KEYS[1], name, limit)
    published = published + 1
  end
end
return published
