#!lua flags=allow-oom
-- Change the number of partitions of an empty queue.
-- Invariant: the number changes only while no jobs wait, no drain holds a lease and there are no dead letters. A dead
-- letter could be replayed into a partition that is no longer its user's.
--
-- KEYS  meta, then for each old partition: stream, lease, dead letters, users of the overflow stream
-- ARGV  old number of partitions, new number of partitions
local partitions = redis.call('HGET', KEYS[1], 'partitions')
if partitions == ARGV[2] then
  return 1  -- it was changed before, and the reply was lost
elseif partitions ~= ARGV[1] then
  return redis.error_reply('PARTITIONS ' .. (partitions or '0'))
end
local jobs, leases, dead_letters = 0, 0, 0
for i = 2, #KEYS, 4 do
  jobs = jobs + redis.call('XLEN', KEYS[i])
  leases = leases + redis.call('EXISTS', KEYS[i + 1])
  dead_letters = dead_letters + redis.call('XLEN', KEYS[i + 2])
end
if jobs + leases + dead_letters > 0 then
  return redis.error_reply('NOTEMPTY ' .. jobs .. ' ' .. leases .. ' ' .. dead_letters)
end
redis.call('HSET', KEYS[1], 'partitions', ARGV[2])
for i = 5, #KEYS, 4 do
  redis.call('DEL', KEYS[i])  -- no job of them waits
end
return 1
