-- Reading entries of a partition, for the drain that holds its lease.
--
-- How to read: process (the id of the process that asks), living (what stands before an id in the key of a process
-- that lives), process_ttl_ms, deaths (with a batch), deaths_in_quarantine (with one entry), max_job_bytes (a larger job is not
-- read: its size is).
--
-- A note is kept of what is being tried and by which processes; every end of a drain removes it but the death of its
-- process. A death is a process in the note that does not live any more. When as many as `deaths` have died with the
-- same head, its batch is read one by one; when `deaths_in_quarantine` have died with one entry alone, that is returned as
-- crashed, and must not be tried again.
-- use fields

local MOST_TRIED = 16

local function is_behind(id, other)
  local ms, seq = string.match(id, '(%d+)-(%d+)')
  local other_ms, other_seq = string.match(other, '(%d+)-(%d+)')
  if ms ~= other_ms then
    return tonumber(ms) > tonumber(other_ms)
  end
  return tonumber(seq) > tonumber(other_seq)
end

-- Return the processes that have tried the head and have not ended.
local function tried_by(attempts)
  local found = {}
  for process in string.gmatch(redis.call('HGET', attempts, 'tried') or '', '%S+') do
    found[#found + 1] = process
  end
  return found
end

local function count_deaths(reading, tried)
  local deaths = 0
  for _, process in ipairs(tried) do
    if process ~= reading.process and redis.call('EXISTS', reading.living .. process) == 0 then
      deaths = deaths + 1
    end
  end
  return deaths
end

-- Say whether the next batch is suspected of killing the processes that try it.
local function needs_quarantine(reading, attempts, tried)
  return redis.call('HEXISTS', attempts, 'quarantine_to') == 1 or count_deaths(reading, tried) >= reading.deaths
end

-- Note that the process tries this head. Say whether it must be tried alone, and whether that has killed too many.
local function note_try(reading, attempts, head)
  redis.call('SET', reading.living .. reading.process, 1, 'PX', reading.process_ttl_ms)
  local note = redis.call('HMGET', attempts, 'head', 'last', 'quarantine_to')
  local tried = note[1] == head and tried_by(attempts) or {}
  local deaths, quarantine_to = count_deaths(reading, tried), note[3]
  local crashed = quarantine_to and deaths >= reading.deaths_in_quarantine
  if quarantine_to and is_behind(head, quarantine_to) then
    redis.call('HDEL', attempts, 'quarantine_to')
    quarantine_to, crashed = false, false
  elseif not quarantine_to and deaths >= reading.deaths then
    tried, quarantine_to = {}, note[2] or head
    redis.call('HSET', attempts, 'quarantine_to', quarantine_to)
  end
  local ids = {reading.process}
  for _, process in ipairs(tried) do
    if process ~= reading.process and #ids < MOST_TRIED then
      ids[#ids + 1] = process
    end
  end
  redis.call('HSET', attempts, 'head', head, 'tried', table.concat(ids, ' '))
  return quarantine_to, crashed
end

-- Append to `found` for each entry: id, contract version, job, size of the job, position of a replayed job. Take from
-- `room` the `entries` and `bytes` that are read; the first entry is read whatever its size. `start` is '-', or '(' and
-- the id of the entry before. Pages grow from one entry on, so that a few huge jobs are not in memory together.
local function read_from(found, reading, stream, start, most, room)
  local page, count, from, full = 1, 0, start, false
  most = math.min(most, room.entries)
  while count < most and not full do
    local asked = math.min(page, most - count)
    local entries = redis.call('XRANGE', stream, from, '+', 'COUNT', asked)
    page = math.min(page * 2, 16)
    for _, entry in ipairs(entries) do
      local fields = fields_of(entry)
      local size = #fields.j
      if size > reading.max_job_bytes then
        fields.j, page = '', 1
      end
      full = #fields.j > room.bytes and count > 0
      if full then
        break
      end
      room.bytes = room.bytes - #fields.j
      local at = #found
      found[at + 1], found[at + 2], found[at + 3] = entry[1], fields.v, fields.j
      found[at + 4], found[at + 5] = size, fields.r
      count = count + 1
    end
    full = full or #entries < asked
    from = #entries > 0 and '(' .. entries[#entries][1] or from
  end
  room.entries = room.entries - count
end

-- Append to `found` whether (0 or 1) the head crashed, then what `read_from` appends.
local function read_head(found, reading, stream, attempts, most, room)
  local crashed_at = #found + 1
  found[crashed_at] = 0
  local head = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if not head then
    return
  end
  local alone, crashed = note_try(reading, attempts, head[1])
  found[crashed_at] = crashed and 1 or 0
  read_from(found, reading, stream, '-', alone and 1 or most, room)
  redis.call('HSET', attempts, 'last', found[#found - 4])
end
