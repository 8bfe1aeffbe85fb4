#!lua flags=allow-oom
-- Discard entries from the head of a stream: nobody applies them any more.
-- Invariant: this happens only while the queue is paused and no drain holds the partition, so nothing is in flight.
-- Invariant: an entry leaves its stream in the same step in which it is recorded as discarded. So its receipt never looks
-- as if the job had been applied. A client that does not know such records finds the receipt unknown.
-- Invariant: only the entries of the call are removed, and only if the stream still begins with the first of them. So a
-- repeated call removes nothing, and neither does one that was overtaken.
--
-- KEYS  paused, lease, stream, applied, removed, since, backlog, outcomes, attempts, guarded, watched, copies, users
--       (guarded are users with dead letters, copies are watched entries, users are those of the overflow stream)
-- ARGV  a map in MessagePack:
--       partition, first and last (the ids of the first and the last entry), after (the id right after the last), bytes
--       (of all of them), overflow (whether this is an overflow stream), most_outcomes (0: none),
--       outcomes (for each outcome to report, the list of its fields),
--       replays (the replays among the entries: user_id, position)
-- Returns how many entries were discarded.
-- use pausing
-- use removing
-- use counting
-- use guarding
-- use attempts
-- use outcomes
-- use copying
-- use marking
local batch = cmsgpack.unpack(ARGV[1])
local paused, lease, stream, applied, removed, since = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local backlog, outcomes, attempts, guarded = KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local watched, copies, users = KEYS[11], KEYS[12], KEYS[13]
if not is_paused(paused) then
  return redis.error_reply('NOTPAUSED')
elseif redis.call('EXISTS', lease) == 1 then
  return redis.error_reply('NOTPAUSED ' .. batch.partition)
end
local head = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
if not head or head[1] ~= batch.first then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('EXISTS', watched) == 1 then
  copy_for_watchers(copies, stream, batch.last)
end
local mark = redis.call('XRANGE', applied, '-', '+', 'COUNT', 1)[1]
remember_discarded(removed, since, batch, mark and mark[1])
local count = redis.call('XTRIM', stream, 'MINID', '=', batch.after)
mark_applied(applied, batch.last, count)
for _, replay in ipairs(batch.replays) do
  unguard(guarded, replay.user_id, replay.position)
end
for _, fields in ipairs(batch.outcomes) do
  report(outcomes, batch.most_outcomes, now, fields)
end
add_waiting(backlog, -count, -batch.bytes)
remove_attempt(attempts)
if batch.overflow and redis.call('XLEN', stream) == 0 and now > tonumber(string.match(batch.last, '^%d+')) then
  redis.call('DEL', users)  -- the next jobs of its users go to the home stream again
end
return count
