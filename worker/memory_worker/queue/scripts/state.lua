#!lua flags=allow-oom
-- Return the state of partitions, without their jobs.
--
-- KEYS  held partitions, then for each partition: stream, lease, dead letters
-- Returns for each partition: number of entries, id and contract version of the first entry, life left of the lease
-- (ms), number of dead letters, the record of why it is held.
-- use fields
local found = {}
for i = 2, #KEYS, 3 do
  local first = redis.call('XRANGE', KEYS[i], '-', '+', 'COUNT', 1)[1]
  found[#found + 1] = {
    redis.call('XLEN', KEYS[i]), first and first[1] or '', first and fields_of(first).v or '',
    redis.call('PTTL', KEYS[i + 1]), redis.call('XLEN', KEYS[i + 2]),
    redis.call('HGET', KEYS[1], (i - 2) / 3)
  }
end
return found
