#!lua flags=allow-oom
-- Read entries of a partition for the drain that holds its lease, and renew the lease.
-- Invariant: only the holder of the lease reads. Entries stay in the stream.
--
-- KEYS  lease, stream, attempts, home stream, guarded users, paused
-- ARGV  read options in MessagePack (see reading), token, life of the lease (ms), most entries, most bytes, where to
--       start ('-' for the head, or '(' and the id of the entry before)
-- Returns whether (0 or 1) any user of the partition has dead letters, then what was read.
-- use reading
-- use pausing
if redis.call('GET', KEYS[1]) ~= ARGV[2] then
  return redis.error_reply('LEASELOST')
end
if is_paused(KEYS[6]) then
  return redis.error_reply('PAUSED')
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local options = cmsgpack.unpack(ARGV[1])
local found, room = {redis.call('EXISTS', KEYS[5])}, {entries = tonumber(ARGV[4]), bytes = tonumber(ARGV[5])}
if ARGV[6] == '-' then
  append_head(found, options, KEYS[2], KEYS[4], KEYS[3], load_attempt(KEYS[3]), room.entries, room)
else
  found[2] = 0
  append_entries(found, options, KEYS[2], KEYS[4], ARGV[6], 1, room.entries, room)
end
return found
