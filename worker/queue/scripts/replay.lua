-- Push a dead letter again, at the tail of its partition, and ring the doorbell.
-- Invariant: a dead letter is removed in the same step in which its job stands in the stream again.
--
-- KEYS  dead letters, stream, backlog, arq queue, arq job
-- ARGV  id, arq job id, arq job, life of a doorbell (ms)
-- Returns the id of the new entry, or nothing where there is no such dead letter.
local letter = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not letter then
  return false
end
local fields = {v = '', j = ''}
for i = 1, #letter[2], 2 do
  fields[letter[2][i]] = letter[2][i + 1]
end
local id = redis.call('XADD', KEYS[2], '*', 'v', fields.v, 'j', fields.j)
redis.call('XDEL', KEYS[1], ARGV[1])
redis.call('HINCRBY', KEYS[3], 'jobs', 1)
redis.call('HINCRBY', KEYS[3], 'bytes', #fields.j)
if redis.call('SET', KEYS[5], ARGV[3], 'PX', ARGV[4], 'NX') then
  local time = redis.call('TIME')
  redis.call('ZADD', KEYS[4], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[2])
end
return id
