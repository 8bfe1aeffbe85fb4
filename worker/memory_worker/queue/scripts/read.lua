#!lua flags=allow-oom
-- Read entries of a partition, for the drain that holds its lease, and renew the lease.
-- Invariant: only the holder of the lease reads; what is read stays in the stream.
--
-- KEYS  lease, stream, attempts
-- ARGV  token, life of the lease (ms), most entries, most bytes, where to start ('-', or '(' and the id of the entry
--       before), deaths with a batch, deaths with one entry alone
-- Returns what was read.
-- use reading
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('LEASELOST')
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
local found, room = {}, {entries = tonumber(ARGV[3]), bytes = tonumber(ARGV[4])}
read(found, KEYS[2], KEYS[3], ARGV[1], ARGV[5], room.entries, room, tonumber(ARGV[6]), tonumber(ARGV[7]))
return found
