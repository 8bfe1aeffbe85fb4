-- Reading entries of a partition, for the drain that holds its lease.
--
-- A note is kept of what is being tried, which every end of a drain removes but the death of its process. When too
-- many (`deaths`) have died with the same batch, its entries are read one by one; when too many (`deaths_alone`) have
-- died with one alone, it is returned as crashed, and must not be tried again.

local function is_behind(id, other)
  local ms, seq = string.match(id, '(%d+)-(%d+)')
  local other_ms, other_seq = string.match(other, '(%d+)-(%d+)')
  if ms ~= other_ms then
    return tonumber(ms) > tonumber(other_ms)
  end
  return tonumber(seq) > tonumber(other_seq)
end

-- Say whether the next batch is suspected of killing the processes that try it.
local function is_suspect(attempts, deaths)
  local note = redis.call('HMGET', attempts, 'tries', 'suspect_to')
  return note[2] or (note[1] and tonumber(note[1]) + 1 >= deaths)
end

-- Count a death if the last process that tried this head left its note; say whether it must be tried alone.
local function count_tries(attempts, token, head, deaths, deaths_alone)
  local note = redis.call('HMGET', attempts, 'head', 'tries', 'token', 'last', 'suspect_to')
  local tries, suspect_to = 0, note[5]
  if note[1] == head then
    tries = tonumber(note[2]) + (note[3] == token and 0 or 1)
  end
  if suspect_to and is_behind(head, suspect_to) then
    redis.call('HDEL', attempts, 'suspect_to')
    suspect_to = false
  elseif not suspect_to and tries >= deaths then
    tries, suspect_to = 0, note[4]
    redis.call('HSET', attempts, 'suspect_to', suspect_to)
  end
  redis.call('HSET', attempts, 'head', head, 'tries', tries, 'token', token)
  return suspect_to, suspect_to and tries >= deaths_alone
end

-- Append to `found` whether (0 or 1) the head crashed, then for each entry: id, contract version, job, id of the dead
-- letter that it is a replay of (empty strings for missing fields). Take from `room` the `entries` and `bytes` that
-- are read; the first entry is read whatever its size. `start` is '-', or '(' and the id of the entry before.
local function read(found, stream, attempts, token, start, most, room, deaths, deaths_alone)
  local page, count, crashed_at = 16, 0, #found + 1
  found[crashed_at] = 0
  most = math.min(most, room.entries)
  if start == '-' then
    local head = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    if not head then
      return
    end
    local alone, crashed = count_tries(attempts, token, head[1], deaths, deaths_alone)
    most = alone and math.min(most, 1) or most
    found[crashed_at] = crashed and 1 or 0
  end
  local from, full = start, false
  while count < most and not full do
    local entries = redis.call('XRANGE', stream, from, '+', 'COUNT', math.min(page, most - count))
    for _, entry in ipairs(entries) do
      local fields = {v = '', j = '', r = ''}
      for i = 1, #entry[2], 2 do
        fields[entry[2][i]] = entry[2][i + 1]
      end
      full = #fields.j > room.bytes and count > 0
      if full then
        break
      end
      room.bytes = room.bytes - #fields.j
      local at = #found
      found[at + 1], found[at + 2], found[at + 3], found[at + 4] = entry[1], fields.v, fields.j, fields.r
      count = count + 1
    end
    full = full or #entries < page
    from = #entries > 0 and '(' .. entries[#entries][1] or from
  end
  room.entries = room.entries - count
  if start == '-' and count > 0 then
    redis.call('HSET', attempts, 'last', found[#found - 3])
  end
end
