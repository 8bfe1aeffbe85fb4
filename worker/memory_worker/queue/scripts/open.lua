#!lua flags=allow-oom
-- Take the leases of partitions, and read the head of each as far as there is room for all of them.
-- Invariant: at most one token holds a lease. Asking again with the same token (the reply was lost) takes it once.
-- What is read stays in its stream.
--
-- KEYS  meta, then for each partition: lease, claims, attempts, stream
-- ARGV  life of a lease (ms), partitions, most entries in all, most bytes in all, deaths with a batch, deaths with one
--       entry alone, whether (0 or 1) to spare suspects, then for each partition: token, most entries of it
-- Returns for each partition nothing where another token holds it, else: the number of claims of its dead letters,
-- whether (0 or 1) its next batch is suspected of killing the processes that try it, whether the drain before never
-- ended, and what was read: of a suspect that is spared nothing. Partitions for which no room is left are missing.
-- use reading
local partitions = redis.call('HGET', KEYS[1], 'partitions')
if partitions and partitions ~= ARGV[2] then
  return redis.error_reply('PARTITIONS ' .. partitions)
end
local room = {entries = tonumber(ARGV[3]), bytes = tonumber(ARGV[4])}
local deaths, deaths_alone, opened = tonumber(ARGV[5]), tonumber(ARGV[6]), {}
for i = 2, #KEYS, 4 do
  local lease, claims, attempts, stream = KEYS[i], KEYS[i + 1], KEYS[i + 2], KEYS[i + 3]
  local token, most = ARGV[7 + i / 2], tonumber(ARGV[8 + i / 2])
  if i > 2 and (room.entries <= 0 or room.bytes <= 0) then
    break
  end
  local found = false
  if redis.call('SET', lease, token, 'NX', 'PX', ARGV[1]) or redis.call('GET', lease) == token then
    local suspect = is_suspect(attempts, deaths)
    local orphaned = redis.call('HEXISTS', attempts, 'token')
    found = {redis.call('HLEN', claims), suspect and 1 or 0, orphaned}
    if most > 0 and not (suspect and ARGV[7] == '1') then
      read(found, stream, attempts, token, '-', most, room, deaths, deaths_alone)
    end
  end
  opened[#opened + 1] = found
end
return opened
