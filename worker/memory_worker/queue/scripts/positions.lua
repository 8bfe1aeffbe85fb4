#!lua flags=allow-oom
-- Return how far the entries of streams reach.
--
-- KEYS  for each partition: stream
-- Returns for each partition: id of the first entry, id of the last entry (both empty if there is none), number of
-- entries, and how many were ever added.
local function added_to(stream)
  local info = redis.pcall('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'entries-added' then
      return info[i + 1]
    end
  end
  return 0  -- there is no stream
end

local function id_of(entries)
  return entries[1] and entries[1][1] or ''
end

local found = {}
for i, stream in ipairs(KEYS) do
  found[i] = {
    id_of(redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)), id_of(redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)),
    redis.call('XLEN', stream), added_to(stream),
  }
end
return found
