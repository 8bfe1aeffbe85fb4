#!lua flags=allow-oom
-- Take the leases of partitions, and read the head of each as far as there is room for all of them.
-- Invariant: at most one token holds a lease. Asking again with the same token (the reply was lost) takes it once.
-- What is read stays in its stream.
--
-- KEYS  meta, then for each partition: lease, guarded users, attempts, stream
-- ARGV  how to read, in MessagePack (see reading), life of a lease (ms), partitions, most entries in all, most bytes in
--       all, whether (0 or 1) to spare orphaned, then for each partition: token, most entries of it
-- Returns for each partition nothing where another token holds it, else: whether any user has dead letters there,
-- whether its next batch is suspected of killing the processes that try it, whether the drain before never ended (each
-- 0 or 1), and what was read: of a quarantined that is spared nothing. Partitions for which no room is left are missing.
-- use reading
local reading = cmsgpack.unpack(ARGV[1])
local partitions = redis.call('HGET', KEYS[1], 'partitions')
if partitions and partitions ~= ARGV[3] then
  return redis.error_reply('PARTITIONS ' .. partitions)
end
local room, opened = {entries = tonumber(ARGV[4]), bytes = tonumber(ARGV[5])}, {}
for i = 2, #KEYS, 4 do
  local lease, guarded, attempts, stream = unpack(KEYS, i, i + 3)
  local token, most = ARGV[6 + i / 2], tonumber(ARGV[7 + i / 2])
  if i > 2 and (room.entries <= 0 or room.bytes <= 0) then
    break
  end
  local found = false
  if redis.call('SET', lease, token, 'NX', 'PX', ARGV[2]) or redis.call('GET', lease) == token then
    local tried = tried_by(attempts)
    local quarantined = needs_quarantine(reading, attempts, tried)
    found = {redis.call('EXISTS', guarded), quarantined and 1 or 0, #tried > 0 and 1 or 0}
    if most > 0 and not (quarantined and ARGV[6] == '1') then
      read_head(found, reading, stream, attempts, most, room)
    end
  end
  opened[#opened + 1] = found
end
return opened
