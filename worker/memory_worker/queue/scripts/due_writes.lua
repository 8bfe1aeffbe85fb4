#!lua flags=allow-oom
-- Read the writes of arq's own client that are due, in their order: by due time, then by job id.
-- Invariant: the only writes that are removed are those without a record, which has expired. The record and the place
-- in the queue are made in one step, so nobody is about to add one.
--
-- KEYS  arq queue
-- ARGV  most writes, most bytes of records, largest record that is read, prefix of the keys of records
-- Returns a list of the ids that were removed, then for each write: id, due time, size of the record, and the record,
-- or its first byte if it is larger than the largest. The first write is returned whatever its size.
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local room, largest = tonumber(ARGV[2]), tonumber(ARGV[3])
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, tonumber(ARGV[1]))
local removed, found = {}, {}
for i = 1, #due, 2 do
  local job_id, key = due[i], ARGV[4] .. due[i]
  local size = redis.pcall('STRLEN', key)
  if type(size) == 'table' and not string.find(size.err, 'WRONGTYPE') then
    return size  -- Redis refuses to read records, so nothing is known of them
  elseif type(size) == 'table' or size == 0 then
    redis.call('ZREM', KEYS[1], job_id)
    removed[#removed + 1] = job_id
  else
    if size > room and #found > 0 then
      break
    end
    room = room - size
    local record = size > largest and redis.call('GETRANGE', key, 0, 0) or redis.call('GET', key)
    local at = #found
    found[at + 1], found[at + 2], found[at + 3], found[at + 4] = job_id, due[i + 1], size, record
  end
end
table.insert(found, 1, removed)
return found
