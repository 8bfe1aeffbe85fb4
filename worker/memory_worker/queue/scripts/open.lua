#!lua flags=allow-oom
-- Take the leases of partitions, and read the head of each, as long as there is room for further entries.
-- Invariant: at most one token holds a lease. If the call is repeated with the same token because the reply was lost,
-- the lease is taken once. Entries stay in their streams.
--
-- KEYS  meta, then for each partition: lease, guarded users, attempts, stream
-- ARGV  read options in MessagePack (see reading), life of a lease (ms), number of partitions, most entries in all,
--       most bytes in all, whether (0 or 1) to read nothing in quarantine, then for each partition: token, most entries
-- Returns for each partition nothing if another token holds the lease, else: whether the partition has dead letters,
-- whether its next batch needs quarantine, whether the drain before never ended (each 0 or 1), then what was read.
-- Partitions after the room is used up are missing.
-- use reading
local options = cmsgpack.unpack(ARGV[1])
local partitions = redis.call('HGET', KEYS[1], 'partitions')
if partitions and partitions ~= ARGV[3] then
  return redis.error_reply('PARTITIONS ' .. partitions)
end
local room, opened = {entries = tonumber(ARGV[4]), bytes = tonumber(ARGV[5])}, {}
for i = 2, #KEYS, 4 do
  local lease, guarded, attempts, stream = unpack(KEYS, i, i + 3)
  local token, max_entries = ARGV[6 + i / 2], tonumber(ARGV[7 + i / 2])
  if i > 2 and (room.entries <= 0 or room.bytes <= 0) then
    break
  end
  local found = false
  if redis.call('SET', lease, token, 'NX', 'PX', ARGV[2]) or redis.call('GET', lease) == token then
    local processes = recorded_processes(attempts)
    local quarantined = needs_quarantine(options, attempts, processes)
    found = {redis.call('EXISTS', guarded), quarantined and 1 or 0, #processes > 0 and 1 or 0}
    if max_entries > 0 and not (quarantined and ARGV[6] == '1') then
      append_head(found, options, stream, attempts, max_entries, room)
    end
  end
  opened[#opened + 1] = found
end
return opened
