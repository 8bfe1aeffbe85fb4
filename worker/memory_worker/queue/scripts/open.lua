#!lua flags=allow-oom
-- Take the leases of partitions, and read the head of each, as long as there is room for further entries.
--
-- KEYS  meta, paused, then for each partition: lease, guarded users, attempts, stream, home stream
-- ARGV  read options in MessagePack (see reading), life of a lease (ms), number of partitions, most entries in all,
--       most bytes in all, whether (0 or 1) to read nothing in quarantine, then for each partition: token, most entries
-- Returns for each partition what opening says. Partitions after the room is used up are missing.
-- use opening
-- use pausing
if is_paused(KEYS[2]) then
  return redis.error_reply('PAUSED')
end
local options = cmsgpack.unpack(ARGV[1])
local partitions = redis.call('HGET', KEYS[1], 'partitions')
if partitions and partitions ~= ARGV[3] then
  return redis.error_reply('PARTITIONS ' .. partitions)
end
local room, opened = {entries = tonumber(ARGV[4]), bytes = tonumber(ARGV[5])}, {}
local opening = {ttl = ARGV[2], skip_quarantined = ARGV[6] == '1'}
for i = 3, #KEYS, 5 do
  if i > 3 and (room.entries <= 0 or room.bytes <= 0) then
    break
  end
  local at = (i - 3) / 5 * 2 + 7
  opened[#opened + 1] = open_partition(
    options, opening, keys_of(unpack(KEYS, i, i + 4)), ARGV[at], tonumber(ARGV[at + 1]), room)
end
return opened
