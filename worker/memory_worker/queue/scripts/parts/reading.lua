-- Read entries of a partition, for the drain that holds its lease.
--
-- `options` says how to read: process (the id of the process that reads), process_prefix (of the key that exists while
-- a process is alive), process_ttl_ms, deaths and deaths_in_quarantine (see attempts), max_job_bytes (of a larger job
-- only the size is read).
-- `room` has the number of `entries` and `bytes` that may still be read. What is read is taken off it.
-- use attempts
-- use fields

-- Append for each entry: id, contract version, job, size of the job, position of a replayed job. `start` is '-', or '('
-- and the id of the entry before. The first entry is read whatever its size. Pages begin with one entry and grow, so
-- that only a few huge jobs are in memory at once.
local function append_entries(found, options, stream, start, max_entries, room)
  local count, page_size, done = 0, 1, false
  max_entries = math.min(max_entries, room.entries)
  while count < max_entries and not done do
    local asked = math.min(page_size, max_entries - count)
    local entries = redis.call('XRANGE', stream, start, '+', 'COUNT', asked)
    page_size = math.min(page_size * 2, 16)
    for _, entry in ipairs(entries) do
      local fields = fields_of(entry)
      local size = #fields.j
      if size > options.max_job_bytes then
        fields.j, page_size = '', 1
      end
      done = #fields.j > room.bytes and count > 0
      if done then
        break
      end
      room.bytes = room.bytes - #fields.j
      local at = #found
      found[at + 1], found[at + 2], found[at + 3] = entry[1], fields.v, fields.j
      found[at + 4], found[at + 5] = size, fields.r
      count = count + 1
    end
    done = done or #entries < asked
    start = #entries > 0 and '(' .. entries[#entries][1] or start
  end
  room.entries = room.entries - count
end

-- Record the attempt, then append whether (0 or 1) the head has crashed, and the entries from the head on.
local function append_head(found, options, stream, attempts, max_entries, room)
  local crashed_at = #found + 1
  found[crashed_at] = 0
  local head = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if not head then
    return
  end
  local quarantined, crashed = record_attempt(options, attempts, head[1])
  found[crashed_at] = crashed and 1 or 0
  append_entries(found, options, stream, '-', quarantined and 1 or max_entries, room)
  local last_id = found[#found - 4]
  redis.call('HSET', attempts, 'last', last_id)
end
