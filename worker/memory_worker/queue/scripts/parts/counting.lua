-- The count of what waits and of what is dead: entries and bytes, in one hash of which nothing is left when all are zero.
local function count(backlog, entries_field, bytes_field, entries, bytes)
  redis.call('HINCRBY', backlog, bytes_field, bytes)
  if redis.call('HINCRBY', backlog, entries_field, entries) <= 0 then
    redis.call('HDEL', backlog, entries_field, bytes_field)
  end
end

local function count_waiting(backlog, entries, bytes)
  count(backlog, 'jobs', 'bytes', entries, bytes)
end

local function count_dead(backlog, entries, bytes)
  count(backlog, 'dead', 'dead_bytes', entries, bytes)
end
