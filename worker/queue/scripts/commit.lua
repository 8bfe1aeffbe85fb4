#!lua flags=allow-oom
-- Remove a batch from the head of a partition: what was applied leaves, what never can be becomes a dead letter.
-- Invariant: an entry leaves the stream in the same step in which it is counted as applied or stands in the dead
-- letters, and only for the drain that holds the lease.
--
-- KEYS  lease, stream, applied, dead letters, backlog
-- ARGV  token, life of the lease (ms), last id of the batch, the id right behind it, jobs, bytes,
--       then for each dead letter: id, reason, detail, op, user id
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('LEASELOST')
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 7, #ARGV, 5 do
  local entry = redis.call('XRANGE', KEYS[2], ARGV[i], ARGV[i])[1]
  if entry then
    redis.call('XADD', KEYS[4], ARGV[i], 'reason', ARGV[i + 1], 'detail', ARGV[i + 2], 'op', ARGV[i + 3],
      'user_id', ARGV[i + 4], 'at', now, unpack(entry[2]))
  end
end

redis.call('XTRIM', KEYS[2], 'MINID', '=', ARGV[4])
local mark = {'XADD', KEYS[3], 'MAXLEN', '=', 1, ARGV[3], 'jobs', ARGV[5]}
local marked = redis.pcall(unpack(mark))
if type(marked) == 'table' and marked.err then
  -- The mark is ahead of its stream only when somebody removed the stream by hand: begin the mark anew.
  redis.call('DEL', KEYS[3])
  redis.call(unpack(mark))
end
redis.call('HINCRBY', KEYS[5], 'bytes', -ARGV[6])
if redis.call('HINCRBY', KEYS[5], 'jobs', -ARGV[5]) <= 0 then
  redis.call('DEL', KEYS[5])
end
return 1
