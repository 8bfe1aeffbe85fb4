#!lua flags=allow-oom
-- Read entries from the head of a partition, for the drain that holds its lease, and renew the lease.
-- Invariant: only the holder of the lease reads; what is read stays in the stream.
--
-- KEYS  lease, stream
-- ARGV  token, life of the lease (ms), most entries, most bytes (the first entry is read whatever its size),
--       where to start ('-', or '(' and the id of the entry before)
-- Returns a flat list: id, contract version, job, id, ... (a field that an entry lacks is an empty string)
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('LEASELOST')
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])

local most, budget, page = tonumber(ARGV[3]), tonumber(ARGV[4]), 64
local found, start, count = {}, ARGV[5], 0
while count < most do
  local entries = redis.call('XRANGE', KEYS[2], start, '+', 'COUNT', math.min(page, most - count))
  for _, entry in ipairs(entries) do
    local fields = {v = '', j = ''}
    for i = 1, #entry[2], 2 do
      fields[entry[2][i]] = entry[2][i + 1]
    end
    budget = budget - #fields.j
    if budget < 0 and count > 0 then
      return found
    end
    found[#found + 1] = entry[1]
    found[#found + 1] = fields.v
    found[#found + 1] = fields.j
    count = count + 1
  end
  if #entries < page then
    break
  end
  start = '(' .. entries[#entries][1]
end
return found
