-- Read entries of a partition, for the drain that holds its lease.
--
-- `options` says how to read: process (the id of the process that reads), process_prefix (of the key that exists while
-- a process is alive), process_ttl_ms, deaths and deaths_in_quarantine (see attempts), max_job_bytes (of a larger job
-- only the size is read).
-- `room` has the number of `entries` and `bytes` that may still be read. What is read is taken off it.
-- `home` is the key of the home stream of the partition. It is the stream itself, unless this is an overflow stream.
-- use attempts
-- use fields

-- Return up to where a stream may be read. An entry of an overflow stream must wait until the home stream has no older
-- one, because the user may have older jobs there. Entries leave a stream only once they are applied.
local function last_readable(stream, home)
  local oldest = stream ~= home and redis.call('XRANGE', home, '-', '+', 'COUNT', 1)[1]
  return oldest and '(' .. oldest[1] or '+'
end

-- Append for each entry: id, contract version, job, size of the job, position of a replayed job, trace context. `start` is '-', or '('
-- and the id of the entry before. `at_least` so many (0 or 1) are read whatever their size. Pages begin with one entry
-- and grow, so that only a few huge jobs are in memory at once.
local function append_entries(found, options, stream, home, start, at_least, max_entries, room)
  local last = last_readable(stream, home)
  local count, page_size, done = 0, 1, false
  max_entries = math.min(max_entries, room.entries)
  while count < max_entries and not done do
    local asked = math.min(page_size, max_entries - count)
    local entries = redis.call('XRANGE', stream, start, last, 'COUNT', asked)
    page_size = math.min(page_size * 2, 16)
    for _, entry in ipairs(entries) do
      local fields = fields_of(entry)
      local size = #fields.j
      if size > options.max_job_bytes then
        fields.j, page_size = '', 1
      end
      done = #fields.j > room.bytes and count >= at_least
      if done then
        break
      end
      room.bytes = room.bytes - #fields.j
      local at = #found
      found[at + 1], found[at + 2], found[at + 3] = entry[1], fields.v, fields.j
      found[at + 4], found[at + 5], found[at + 6] = size, fields.r, fields.t
      count = count + 1
    end
    done = done or #entries < asked
    start = #entries > 0 and '(' .. entries[#entries][1] or start
  end
  room.entries = room.entries - count
end

-- Append whether (0 or 1) the head has crashed, and the entries from the head on, and record the attempt. `attempt` is
-- the record so far.
local function append_head(found, options, stream, home, attempts, attempt, max_entries, room)
  local at = #found + 1
  found[at] = 0
  local waiting = redis.call('XLEN', stream)
  if waiting == 0 then
    return
  end
  append_entries(found, options, stream, home, '-', 1, 1, room)
  local head = found[at + 1]
  if not head then
    return
  end
  local quarantined, crashed = judge_head(options, attempts, attempt, head)
  found[at] = crashed and 1 or 0
  if not quarantined then
    append_entries(found, options, stream, home, '(' .. head, 0, math.min(max_entries, waiting) - 1, room)
  end
  record_attempt(options, attempts, attempt, head, found[#found - 5])
end
