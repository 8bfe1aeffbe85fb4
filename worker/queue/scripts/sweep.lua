#!lua flags=allow-oom
-- Find partitions in which entries wait, that nobody drains and whose doorbell was lost, and ring it.
-- A mark of arq's that a job is in progress means nothing without a lease: its owner was killed, or takes the lease in
-- a moment, in which case a second claim finds the lease taken and ends.
-- Invariant: after this, each partition with entries has a lease or a doorbell that some worker will hear.
--
-- It also sets the count of waiting jobs right, should entries have come or gone without these scripts.
--
-- KEYS  arq queue, backlog, then for each partition: stream, lease, arq job, arq in-progress
-- ARGV  life of a doorbell (ms), then for each partition: arq job id, arq job
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local rung, waiting = 0, 0
for i = 3, #KEYS, 4 do
  local stream, lease, job, in_progress = KEYS[i], KEYS[i + 1], KEYS[i + 2], KEYS[i + 3]
  local entries = redis.call('XLEN', stream)
  waiting = waiting + entries
  if entries > 0 and redis.call('EXISTS', lease) == 0 then
    local n = (i - 3) / 2 + 2
    local orphaned = redis.call('DEL', in_progress) == 1
    local due = redis.call('ZSCORE', KEYS[1], ARGV[n])
    if not due or redis.call('EXISTS', job) == 0 then
      redis.call('SET', job, ARGV[n + 1], 'PX', ARGV[1])
      redis.call('ZADD', KEYS[1], now, ARGV[n])
      rung = rung + 1
    elseif orphaned then
      rung = rung + 1
    end
  end
end
if waiting == 0 then
  redis.call('DEL', KEYS[2])
else
  redis.call('HSET', KEYS[2], 'jobs', waiting)
end
return rung
