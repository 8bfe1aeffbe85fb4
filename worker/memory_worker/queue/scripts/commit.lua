#!lua flags=allow-oom
-- Remove batches from the heads of their partitions: what was applied leaves, what never can be becomes a dead letter.
-- Invariant: an entry leaves the stream in the same step in which it is counted as applied or is stored as a dead
-- letter, and only for the drain that holds the lease. Done twice, because a reply was lost, it counts once.
-- A lease is renewed or, when nothing is left, given back.
--
-- KEYS  backlog, then for each partition: lease, stream, applied, dead letters, attempts, guarded users
-- ARGV  life of a lease (ms; 0: it is given back, whatever is left), then for each partition a map in MessagePack:
--       token, last (the last id of the batch), behind (the id right behind it), bytes (of the batch),
--       dead (dead letters: id, reason, detail, op, user_id, position),
--       guards (what is new about a user's dead letters: user_id, touched, dead_letters, forgotten),
--       gone (older dead letters that a purge deletes: user_id, position, entry_id)
-- Returns for each partition how many entries are left; less than 0: its lease is held no longer, nothing was changed.
-- use guarding
-- use counting
-- use fields
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function bury(stream, dead, dead_letter)
  local entry = redis.call('XRANGE', stream, dead_letter.id, dead_letter.id)[1]
  if not entry then
    return
  end
  -- Only the version and the job of it: a foreign entry may have thousands of fields, or some that are named like ours.
  local fields = fields_of(entry)
  local words = {
    'reason', dead_letter.reason, 'detail', dead_letter.detail, 'op', dead_letter.op, 'user_id', dead_letter.user_id, 'at', now,
    'v', fields.v, 'j', fields.j, 'r', dead_letter.position,
  }
  local added = redis.pcall('XADD', dead, dead_letter.id, unpack(words))
  if type(added) == 'table' and added.err then
    -- The letters are ahead of their stream only when somebody removed the stream by hand: keep it all the same.
    redis.call('XADD', dead, '*', unpack(words))
  end
  count_dead(KEYS[1], 1, #fields.j)
end

local function guard(guarded, change)
  local dead_letters, points = dead_letters_of(guarded, change.user_id), points_of(guarded, change.user_id)
  for position, dead_letter in pairs(change.dead_letters) do
    redis.call('HSET', dead_letters, position, dead_letter)
    redis.call('SADD', guarded, change.user_id)
  end
  for _, position in ipairs(change.forgotten) do
    redis.call('HDEL', dead_letters, position)
  end
  if redis.call('EXISTS', dead_letters) == 1 then  -- else the last one was dropped since this batch was read
    for field, position in pairs(change.touched) do
      redis.call('HSET', points, field, position)
    end
  end
  forget_if_none(guarded, change.user_id)
end

local function delete_dead_letters(dead, guarded, gone)
  for _, one in ipairs(gone) do
    local dead_letter = redis.call('XRANGE', dead, one.entry_id, one.entry_id)[1]
    if dead_letter then  -- else it waits to be replayed, and is refused in its turn
      redis.call('XDEL', dead, one.entry_id)
      count_dead(KEYS[1], -1, -#fields_of(dead_letter).j)
      forget_dead_letter(guarded, one.user_id, one.position)
    end
  end
end

local function mark_applied(applied, last_id, removed)
  local mark = {'XADD', applied, 'MAXLEN', '=', 1, last_id, 'jobs', removed}
  local marked = redis.pcall(unpack(mark))
  if type(marked) == 'table' and marked.err then
    -- The mark is ahead of its stream only when somebody removed the stream by hand: begin the mark anew.
    redis.call('DEL', applied)
    redis.call(unpack(mark))
  end
end

local function left_in(stream, lease)
  local left = redis.call('XLEN', stream)
  if left > 0 and ARGV[1] ~= '0' then
    redis.call('PEXPIRE', lease, ARGV[1])
  else
    redis.call('DEL', lease)
  end
  return left
end

local function commit(batch, lease, stream, applied, dead, attempts, guarded)
  if redis.call('GET', lease) ~= batch.token then
    -- Committed before all the same, if that gave the lease back.
    local mark = redis.call('XRANGE', applied, '-', '+', 'COUNT', 1)[1]
    return mark and mark[1] == batch.last and redis.call('XLEN', stream) or -1
  end
  redis.call('HDEL', attempts, 'head', 'last', 'tried')
  for _, dead_letter in ipairs(batch.dead) do
    bury(stream, dead, dead_letter)
  end
  local removed = redis.call('XTRIM', stream, 'MINID', '=', batch.behind)
  if removed > 0 then  -- else it was committed before, and the reply was lost
    for _, change in ipairs(batch.guards) do
      guard(guarded, change)
    end
    delete_dead_letters(dead, guarded, batch.gone)
    mark_applied(applied, batch.last, removed)
    count_waiting(KEYS[1], -removed, -batch.bytes)
  end
  return left_in(stream, lease)
end

local found = {}
for i = 2, #KEYS, 6 do
  local batch = cmsgpack.unpack(ARGV[(i - 2) / 6 + 2])
  found[#found + 1] = commit(batch, unpack(KEYS, i, i + 5))
end
return found
