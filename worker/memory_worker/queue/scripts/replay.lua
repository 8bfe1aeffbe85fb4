-- Push a dead letter again, at the tail of its partition, and ring the doorbell.
-- Invariant: a dead letter is removed in the same step in which its job stands in the stream again. Unless forced, the
-- entry names the letter, so that its drain can tell whether newer jobs of the same points have been applied by then.
--
-- KEYS  dead letters, stream, backlog, arq queue, arq job, claims, superseded, bell
-- ARGV  id, arq job id, arq job, life of a doorbell (ms), forced (0 or 1)
-- Returns the id of the new entry, or nothing where there is no such dead letter.
-- use ringing
local letter = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not letter then
  return false
end
local fields = {v = '', j = ''}
for i = 1, #letter[2], 2 do
  fields[letter[2][i]] = letter[2][i + 1]
end
local entry = {'v', fields.v, 'j', fields.j}
if ARGV[5] == '1' then
  redis.call('HDEL', KEYS[6], ARGV[1])
  redis.call('SREM', KEYS[7], ARGV[1])
elseif fields.reason == 'superseded' or redis.call('SISMEMBER', KEYS[7], ARGV[1]) == 1 then
  return redis.error_reply('SUPERSEDED')
else
  entry[5], entry[6] = 'r', ARGV[1]
end
local id = redis.call('XADD', KEYS[2], '*', unpack(entry))
redis.call('XDEL', KEYS[1], ARGV[1])
redis.call('HINCRBY', KEYS[3], 'jobs', 1)
redis.call('HINCRBY', KEYS[3], 'bytes', #fields.j)
if redis.call('SET', KEYS[5], ARGV[3], 'PX', ARGV[4], 'NX') then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  ring(KEYS[4], KEYS[8], ARGV[2], now, now)
end
return id
