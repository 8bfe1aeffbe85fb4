#!lua flags=allow-oom
-- Remove batches from the heads of their partitions: applied entries leave the stream, and entries that can never be
-- applied become dead letters. Report outcomes. Renew each lease, or release it.
-- Invariant: an entry leaves its stream in the same step in which it counts as applied or is stored as a dead letter,
-- and in which its outcome is reported. This happens only for the drain that holds the lease. If the call is repeated
-- because the reply was lost, it counts once.
--
-- KEYS  backlog, outcomes, watched, then for each partition: lease, stream, applied, dead letters, attempts,
--       guarded users, watched entries
-- ARGV  life of a lease (ms; 0: release it in any case), most outcomes (0: none),
--       then for each partition a map in MessagePack:
--       token, last (the last id of the batch), after (the id right after it), bytes (of the batch),
--       dead (new dead letters: id, reason, detail, op, user_id, kind, namespace, ref, position),
--       outcomes (for each outcome to report, the list of its fields),
--       guards (changes of replay guards: user_id, points, dead_letters, forgotten),
--       purged (older dead letters that a purge deletes: user_id, position, entry_id)
-- Returns for each partition how many entries are left, or -1 if the lease is no longer held and nothing was changed.
-- A lease is released once no entries are left.
-- use guarding
-- use counting
-- use fields
-- use attempts
-- use outcomes
local WATCHED_MAX = 1024
local WATCHED_LIFE_MS = 60000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function add_dead_letter(stream, dead, dead_letter)
  local entry = redis.call('XRANGE', stream, dead_letter.id, dead_letter.id)[1]
  if not entry then
    return
  end
  -- Only the version and the job of the entry are kept. A foreign entry may have thousands of other fields, or fields
  -- with the same names as ours.
  local fields = fields_of(entry)
  local values = {
    'reason', dead_letter.reason, 'detail', dead_letter.detail, 'op', dead_letter.op, 'user_id', dead_letter.user_id,
    'kind', dead_letter.kind, 'namespace', dead_letter.namespace, 'ref', dead_letter.ref, 'at', now,
    'v', fields.v, 'j', fields.j, 'r', dead_letter.position,
  }
  local added = redis.pcall('XADD', dead, dead_letter.id, unpack(values))
  if type(added) == 'table' and added.err then
    -- The dead letters have later ids than the stream if somebody removed the stream by hand. Use a new id.
    redis.call('XADD', dead, '*', unpack(values))
  end
  add_dead(KEYS[1], 1, #fields.j)
end

local function update_guard(guarded, change)
  local dead_letters, points = dead_letters_of(guarded, change.user_id), points_of(guarded, change.user_id)
  for position, dead_letter in pairs(change.dead_letters) do
    redis.call('HSET', dead_letters, position, dead_letter)
    redis.call('SADD', guarded, change.user_id)
  end
  for _, position in ipairs(change.forgotten) do
    redis.call('HDEL', dead_letters, position)
  end
  if redis.call('EXISTS', dead_letters) == 1 then  -- else the last one was dropped since this batch was read
    for point, position in pairs(change.points) do
      redis.call('HSET', points, point, position)
    end
  end
  remove_user_without_dead_letters(guarded, change.user_id)
end

local function delete_purged(dead, guarded, purged)
  for _, one in ipairs(purged) do
    local dead_letter = redis.call('XRANGE', dead, one.entry_id, one.entry_id)[1]
    if dead_letter then  -- else it is being replayed, and its replay will be refused
      redis.call('XDEL', dead, one.entry_id)
      add_dead(KEYS[1], -1, -#fields_of(dead_letter).j)
      unguard(guarded, one.user_id, one.position)
    end
  end
end

-- While somebody watches the queue, keep copies of the entries that leave it, for a while.
local function copy_for_watchers(watched, stream, last_id)
  for _, entry in ipairs(redis.call('XRANGE', stream, '-', last_id)) do
    local fields = fields_of(entry)
    redis.pcall('XADD', watched, 'MAXLEN', '=', WATCHED_MAX, entry[1], 'v', fields.v, 'j', fields.j)
  end
  redis.call('PEXPIRE', watched, WATCHED_LIFE_MS)
end

local function mark_applied(applied, last_id, removed)
  local add_mark = {'XADD', applied, 'MAXLEN', '=', 1, last_id, 'jobs', removed}
  local added = redis.pcall(unpack(add_mark))
  if type(added) == 'table' and added.err then
    -- The mark has a later id than the stream if somebody removed the stream by hand. Start a new mark.
    redis.call('DEL', applied)
    redis.call(unpack(add_mark))
  end
end

local function renew_or_release(stream, lease)
  local left = redis.call('XLEN', stream)
  if left > 0 and ARGV[1] ~= '0' then
    redis.call('PEXPIRE', lease, ARGV[1])
  else
    redis.call('DEL', lease)
  end
  return left
end

local function commit(batch, lease, stream, applied, dead, attempts, guarded, watched)
  if redis.call('GET', lease) ~= batch.token then
    -- If the batch was committed before, that call has released the lease.
    local mark = redis.call('XRANGE', applied, '-', '+', 'COUNT', 1)[1]
    return mark and mark[1] == batch.last and redis.call('XLEN', stream) or -1
  end
  remove_attempt(attempts)
  for _, dead_letter in ipairs(batch.dead) do
    add_dead_letter(stream, dead, dead_letter)
  end
  if redis.call('EXISTS', KEYS[3]) == 1 then
    copy_for_watchers(watched, stream, batch.last)
  end
  local removed = redis.call('XTRIM', stream, 'MINID', '=', batch.after)
  if removed > 0 then  -- else it was committed before
    for _, change in ipairs(batch.guards) do
      update_guard(guarded, change)
    end
    delete_purged(dead, guarded, batch.purged)
    mark_applied(applied, batch.last, removed)
    for _, fields in ipairs(batch.outcomes) do
      report(KEYS[2], ARGV[2], now, fields)
    end
    add_waiting(KEYS[1], -removed, -batch.bytes)
  end
  return renew_or_release(stream, lease)
end

local found = {}
for i = 4, #KEYS, 7 do
  local batch = cmsgpack.unpack(ARGV[(i - 4) / 7 + 3])
  found[#found + 1] = commit(batch, unpack(KEYS, i, i + 6))
end
return found
