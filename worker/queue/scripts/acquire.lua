#!lua flags=allow-oom
-- Take the lease of a partition.
-- Invariant: at most one token holds it. Asking again with the same token (the reply was lost) takes it once.
--
-- KEYS  lease, claims, attempts, meta
-- ARGV  token, life of the lease (ms), deaths with a batch, partitions
-- Returns nothing where another token holds it, else: the number of claims of the partition's dead letters, whether
-- (0 or 1) its next batch is suspected of killing the processes that try it, and whether the drain before never ended.
local partitions = redis.call('HGET', KEYS[4], 'partitions')
if partitions and partitions ~= ARGV[4] then
  return redis.error_reply('PARTITIONS ' .. partitions)
end
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return false
end
local note = redis.call('HMGET', KEYS[3], 'tries', 'suspect_to', 'token')
local suspect = note[2] or (tonumber(note[1] or 0) + 1 >= tonumber(ARGV[3]) and note[1])
return {redis.call('HLEN', KEYS[2]), suspect and 1 or 0, note[3] and 1 or 0}
