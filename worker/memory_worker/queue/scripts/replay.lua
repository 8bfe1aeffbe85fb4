-- Push a dead letter again, at the tail of its partition, and wake a worker.
-- Invariant: a dead letter is removed in the same step in which its job is stored in the stream again. The new entry
-- keeps the position at which its job was first pushed, so that a drain can check whether newer jobs have touched its
-- points. If the replay is forced, the job counts as new.
--
-- KEYS  dead letters, stream, backlog, arq queue, arq job, wakeup list, guarded users, since, outcomes, removed
-- ARGV  id, arq job id, arq job, life of a drain job (ms), whether it is forced (0 or 1), partition,
--       most outcomes (0: none)
-- Returns the id of the new entry, or nothing if there is no such dead letter.
-- use waking
-- use guarding
-- use removing
-- use fields
local dead_letter = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not dead_letter then
  return false
end
local fields = fields_of(dead_letter)
local position = fields.r ~= '' and fields.r or ARGV[1]
local entry = {'v', fields.v, 'j', fields.j}
if ARGV[5] == '1' then
  unguard(KEYS[7], fields.user_id or '', position)
else
  entry[5], entry[6] = 'r', position
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('HSET', KEYS[8], ARGV[6], now)  -- receipts from before the stream was created are unknown
end
local id = redis.call('XADD', KEYS[2], '*', unpack(entry))
local keys = {dead = KEYS[1], backlog = KEYS[3], outcomes = KEYS[9], removed = KEYS[10], since = KEYS[8]}
remove_dead_letter(keys, {partition = ARGV[6], id = ARGV[1], fields = fields}, id, ARGV[7], now)
add_waiting(KEYS[3], 1, #fields.j)
if redis.call('SET', KEYS[5], ARGV[3], 'PX', ARGV[4], 'NX') then
  wake(KEYS[4], KEYS[6], ARGV[2], now, now)
end
return id
