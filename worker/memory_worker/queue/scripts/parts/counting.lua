-- Add to the totals of waiting jobs and of dead letters: entries and bytes. A total of zero is not stored.
local function add(backlog, entries_field, bytes_field, entries, bytes)
  redis.call('HINCRBY', backlog, bytes_field, bytes)
  if redis.call('HINCRBY', backlog, entries_field, entries) <= 0 then
    redis.call('HDEL', backlog, entries_field, bytes_field)
  end
end

local function add_waiting(backlog, entries, bytes)
  add(backlog, 'jobs', 'bytes', entries, bytes)
end

local function add_dead(backlog, entries, bytes)
  add(backlog, 'dead', 'dead_bytes', entries, bytes)
end
