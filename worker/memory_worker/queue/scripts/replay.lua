-- Push a dead letter again, at the tail of the stream to which its user's jobs go now, and wake a worker.
-- Invariant: a dead letter is removed in the same step in which its job is stored in the stream again. The new entry
-- keeps the position at which its job was first pushed, so that a drain can check whether newer jobs have touched its
-- points. If the replay is forced, the job counts as new.
--
-- KEYS  dead letters, home stream, backlog, arq queue, arq job, wakeup list, guarded users, since, outcomes, removed
-- ARGV  id, arq job id, arq job, life of a drain job (ms), whether it is forced (0 or 1), partition of the dead letter,
--       most outcomes (0: none), home partition, number of partitions, arq job of the overflow stream, user id of the job
-- Returns the receipt of the new entry, or nothing if there is no such dead letter.
-- use waking
-- use guarding
-- use removing
-- use fields
-- use routing
local dead_letter = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not dead_letter then
  return false
end
local fields = fields_of(dead_letter)
local position = fields.r ~= '' and fields.r or ARGV[1]
local entry = {'v', fields.v, 'j', fields.j}
local function add_field(name, value)
  entry[#entry + 1], entry[#entry + 2] = name, value
end
if fields.t ~= '' then
  add_field('t', fields.t)
end
if ARGV[5] == '1' then
  unguard(KEYS[7], fields.user_id or '', position)
else
  add_field('r', position)
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local streams = open_streams(KEYS[2], ARGV[8], ARGV[9], nil, nil, KEYS[8], now)
local receipt = append_job(streams, ARGV[11], entry)
local keys = {dead = KEYS[1], backlog = KEYS[3], outcomes = KEYS[9], removed = KEYS[10], since = KEYS[8]}
remove_dead_letter(keys, {partition = ARGV[6], id = ARGV[1], fields = fields}, receipt, ARGV[7], now)
add_waiting(KEYS[3], 1, #fields.j)
local job_key, job_id, job = KEYS[5], ARGV[2], ARGV[3]
if streams.overflow then
  local number = streams.overflow.number
  job_key, job_id, job = renumbered(job_key, number), renumbered(job_id, number), ARGV[10]
end
if redis.call('SET', job_key, job, 'PX', ARGV[4], 'NX') then
  wake(KEYS[4], KEYS[6], job_id, now, now)
end
return receipt
