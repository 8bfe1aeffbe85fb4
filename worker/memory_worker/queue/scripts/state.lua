#!lua flags=allow-oom
-- Describe partitions, without their jobs' contents.
--
-- KEYS  for each partition: stream, lease, dead letters
-- Returns for each partition a list: waiting, first id, contract version of the first, life left of the lease (ms),
-- dead letters
local found = {}
for i = 1, #KEYS, 3 do
  local waiting = redis.call('XLEN', KEYS[i])
  local first_id, version = '', ''
  if waiting > 0 then
    local first = redis.call('XRANGE', KEYS[i], '-', '+', 'COUNT', 1)[1]
    first_id = first[1]
    for n = 1, #first[2], 2 do
      if first[2][n] == 'v' then
        version = first[2][n + 1]
      end
    end
  end
  found[#found + 1] = {
    waiting, first_id, version, redis.call('PTTL', KEYS[i + 1]), redis.call('XLEN', KEYS[i + 2])
  }
end
return found
