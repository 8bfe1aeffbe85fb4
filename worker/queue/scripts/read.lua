#!lua flags=allow-oom
-- Read entries of a partition, for the drain that holds its lease, and renew the lease.
-- Invariant: only the holder of the lease reads; what is read stays in the stream.
--
-- A note is kept of what is being tried, which every end of a drain removes but the death of its process. When too
-- many have died with the same batch, its entries are read one by one; when too many have died with one alone, it is
-- returned as crashed, and must not be tried again.
--
-- KEYS  lease, stream, attempts
-- ARGV  token, life of the lease (ms), most entries, most bytes (the first entry is read whatever its size),
--       where to start ('-', or '(' and the id of the entry before), deaths with a batch, deaths with one entry alone,
--       whether (0 or 1) to leave alone what is suspected of killing: then nothing is returned
-- Returns a flat list: crashed (0 or 1), then for each entry: id, contract version, job, id of the dead letter that it
-- is a replay of (empty strings for missing fields)
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('LEASELOST')
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])

if ARGV[8] == '1' then
  local note = redis.call('HMGET', KEYS[3], 'tries', 'suspect_to')
  if note[2] or (note[1] and tonumber(note[1]) + 1 >= tonumber(ARGV[6])) then
    return {0}
  end
end

local most, budget, page = tonumber(ARGV[3]), tonumber(ARGV[4]), 16
local found, start, count = {0}, ARGV[5], 0

local function is_behind(id, other)
  local ms, seq = string.match(id, '(%d+)-(%d+)')
  local other_ms, other_seq = string.match(other, '(%d+)-(%d+)')
  if ms ~= other_ms then
    return tonumber(ms) > tonumber(other_ms)
  end
  return tonumber(seq) > tonumber(other_seq)
end

-- Count a death if the last process that tried this head left its note; say whether it must be tried alone.
local function count_tries(head)
  local note = redis.call('HMGET', KEYS[3], 'head', 'tries', 'token', 'last', 'suspect_to')
  local tries, suspect_to = 0, note[5]
  if note[1] == head then
    tries = tonumber(note[2]) + (note[3] == ARGV[1] and 0 or 1)
  end
  if suspect_to and is_behind(head, suspect_to) then
    redis.call('HDEL', KEYS[3], 'suspect_to')
    suspect_to = false
  elseif not suspect_to and tries >= tonumber(ARGV[6]) then
    tries, suspect_to = 0, note[4]
    redis.call('HSET', KEYS[3], 'suspect_to', suspect_to)
  end
  redis.call('HSET', KEYS[3], 'head', head, 'tries', tries, 'token', ARGV[1])
  return suspect_to, suspect_to and tries >= tonumber(ARGV[7])
end

if start == '-' then
  local head = redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', 1)[1]
  if head then
    local alone, crashed = count_tries(head[1])
    most = alone and 1 or most
    found[1] = crashed and 1 or 0
  end
end

local full = false
while count < most and not full do
  local entries = redis.call('XRANGE', KEYS[2], start, '+', 'COUNT', math.min(page, most - count))
  for _, entry in ipairs(entries) do
    local fields = {v = '', j = '', r = ''}
    for i = 1, #entry[2], 2 do
      fields[entry[2][i]] = entry[2][i + 1]
    end
    budget = budget - #fields.j
    full = budget < 0 and count > 0
    if full then
      break
    end
    found[#found + 1] = entry[1]
    found[#found + 1] = fields.v
    found[#found + 1] = fields.j
    found[#found + 1] = fields.r
    count = count + 1
  end
  full = full or #entries < page
  start = #entries > 0 and '(' .. entries[#entries][1] or start
end
if ARGV[5] == '-' and count > 0 then
  redis.call('HSET', KEYS[3], 'last', found[#found - 3])
end
return found
