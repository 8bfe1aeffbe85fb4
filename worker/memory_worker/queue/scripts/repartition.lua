#!lua flags=allow-oom
-- Give an empty queue another number of partitions.
-- Invariant: it changes only in a moment in which nothing waits, nobody drains and no dead letter could be replayed into
-- a partition that is not its user's any more.
--
-- KEYS  meta, then for each partition there is: stream, lease, dead letters
-- ARGV  number of partitions there are, number of partitions there shall be
local partitions = redis.call('HGET', KEYS[1], 'partitions')
if partitions == ARGV[2] then
  return 1  -- done before, and the reply was lost
elseif partitions ~= ARGV[1] then
  return redis.error_reply('PARTITIONS ' .. (partitions or '0'))
end
local jobs, leases, dead_letters = 0, 0, 0
for i = 2, #KEYS, 3 do
  jobs = jobs + redis.call('XLEN', KEYS[i])
  leases = leases + redis.call('EXISTS', KEYS[i + 1])
  dead_letters = dead_letters + redis.call('XLEN', KEYS[i + 2])
end
if jobs + leases + dead_letters > 0 then
  return redis.error_reply('NOTEMPTY ' .. jobs .. ' ' .. leases .. ' ' .. dead_letters)
end
redis.call('HSET', KEYS[1], 'partitions', ARGV[2])
return 1
