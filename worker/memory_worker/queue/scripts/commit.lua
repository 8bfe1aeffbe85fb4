#!lua flags=allow-oom
-- Remove batches from the heads of their partitions: applied entries leave the stream, and entries that can never be
-- applied become dead letters. Report outcomes. Renew each lease; or release it, and end the drain job of the partition.
-- Invariant: an entry leaves its stream in the same step in which it counts as applied or is stored as a dead letter,
-- and in which its outcome is reported. This happens only for the drain that holds the lease. If the call is repeated
-- because the reply was lost, it counts once.
-- Invariant: a drain job ends with its lease. If entries are left, it is queued again and wakes a worker.
--
-- KEYS  backlog, outcomes, watched, arq queue, wakeup list, then for each partition: lease, stream, applied, dead
--       letters, attempts, guarded users, watched entries, dead letters of the other stream of these users, users of the
--       overflow stream, arq job, arq in-progress
-- ARGV  life of a lease (ms; 0: release it in any case), most outcomes (0: none), life of a drain job (ms),
--       then for each partition: arq job id, arq job, and a map in MessagePack:
--       token, last (the last id of the batch), after (the id right after it), bytes (of the batch),
--       overflow (whether this is an overflow stream),
--       dead (new dead letters: id, reason, detail, op, user_id, kind, namespace, ref, position),
--       outcomes (for each outcome to report, the list of its fields),
--       guards (changes of replay guards: user_id, points, dead_letters, forgotten),
--       purged (older dead letters that a purge deletes: user_id, position, entry_id)
-- Returns for each partition how many entries are left, or -1 if the lease is no longer held and nothing was changed.
-- A lease is released once no entries are left.
-- use finishing
-- use guarding
-- use counting
-- use fields
-- use attempts
-- use outcomes
-- use copying
-- use marking
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function add_dead_letter(stream, dead, dead_letter)
  local entry = redis.call('XRANGE', stream, dead_letter.id, dead_letter.id)[1]
  if not entry then
    return
  end
  -- Only the version, the job and the trace context of the entry are kept. A foreign entry may have thousands of other
  -- fields, or fields with the same names as ours.
  local fields = fields_of(entry)
  local values = {
    'reason', dead_letter.reason, 'detail', dead_letter.detail, 'op', dead_letter.op, 'user_id', dead_letter.user_id,
    'kind', dead_letter.kind, 'namespace', dead_letter.namespace, 'ref', dead_letter.ref, 'at', now,
    'v', fields.v, 'j', fields.j, 'r', dead_letter.position,
  }
  if fields.t ~= '' then
    values[#values + 1], values[#values + 2] = 't', fields.t
  end
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

-- No id is in both streams. A dead letter that is in neither is being replayed, and its replay will be refused.
local function delete_purged(both, guarded, purged)
  for _, one in ipairs(purged) do
    for _, dead in ipairs(both) do
      local dead_letter = redis.call('XRANGE', dead, one.entry_id, one.entry_id)[1]
      if dead_letter then
        redis.call('XDEL', dead, one.entry_id)
        add_dead(KEYS[1], -1, -#fields_of(dead_letter).j)
        unguard(guarded, one.user_id, one.position)
      end
    end
  end
end

local function renew_or_release(stream, lease, job)
  local left = redis.call('XLEN', stream)
  if left > 0 and ARGV[1] ~= '0' then
    redis.call('PEXPIRE', lease, ARGV[1])
  else
    redis.call('DEL', lease)
    finish(KEYS[4], KEYS[5], left, job, 0, now)
  end
  return left
end

-- Once an overflow stream is empty, the next jobs of its users go to the home stream again. The ids there must be later.
local function end_overflow(batch, left, users)
  if batch.overflow and left == 0 and now > tonumber(string.match(batch.last, '^%d+')) then
    redis.call('DEL', users)
  end
end

local function commit(batch, job, lease, stream, applied, dead, attempts, guarded, watched, other_dead, users)
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
    delete_purged({dead, other_dead}, guarded, batch.purged)
    mark_applied(applied, batch.last, removed)
    for _, fields in ipairs(batch.outcomes) do
      report(KEYS[2], ARGV[2], now, fields)
    end
    add_waiting(KEYS[1], -removed, -batch.bytes)
  end
  local left = renew_or_release(stream, lease, job)
  end_overflow(batch, left, users)
  return left
end

local found = {}
for i = 6, #KEYS, 11 do
  local at = (i - 6) / 11 * 3 + 4
  local job = {key = KEYS[i + 9], in_progress = KEYS[i + 10], id = ARGV[at], body = ARGV[at + 1], life = ARGV[3]}
  found[#found + 1] = commit(cmsgpack.unpack(ARGV[at + 2]), job, unpack(KEYS, i, i + 8))
end
return found
