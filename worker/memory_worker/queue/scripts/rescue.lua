#!lua flags=allow-oom
-- Find partitions in which entries wait, that nobody drains and whose drain job was lost, and ring it.
-- A mark of arq's that a drain is in progress means nothing without a lease, but for the moments in which a drain begins
-- or ends. So the mark is removed only once the same claim has stood there without a lease for the grace.
-- A drain job that is due further ahead than any drain puts it off was rung before Redis's clock was set back.
-- Invariant: each partition with entries has a lease or a drain job that some worker will hear, after the grace or the
-- longest delay at most.
-- It also sets the counts of waiting jobs and dead letters right, should any have come or gone without these scripts.
--
-- KEYS  arq queue, backlog, orphaned, wakeup, then for each partition: stream, lease, arq job, arq in-progress, dead letters
-- ARGV  life of a drain job (ms), grace (ms), longest delay of a drain job (ms), then for each partition: arq job id,
--       arq job
-- use waking
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Say whether this claim of arq's has been seen without a lease for the grace.
local function is_orphaned(job_id, in_progress)
  local claim = redis.call('PEXPIRETIME', in_progress)
  local seen_claim, since = string.match(redis.call('HGET', KEYS[3], job_id) or '', '^(%-?%d+) (%d+)$')
  if tonumber(seen_claim) ~= claim or tonumber(since) > now then
    redis.call('HSET', KEYS[3], job_id, string.format('%d %d', claim, now))
    return false
  end
  return now - tonumber(since) >= tonumber(ARGV[2])
end

-- Say whether some worker will hear the drain job.
local function will_wake_a_worker(job_id, job)
  local due = redis.call('ZSCORE', KEYS[1], job_id)
  return due and tonumber(due) <= now + tonumber(ARGV[3]) and redis.call('EXISTS', job) == 1
end

-- Set a count right; its bytes are right, or none are counted.
local function set_count(entries_field, bytes_field, entries)
  if entries > 0 then
    redis.call('HSET', KEYS[2], entries_field, entries)
  else
    redis.call('HDEL', KEYS[2], entries_field, bytes_field)
  end
end

local rescued, waiting, dead_letters = 0, 0, 0
for i = 5, #KEYS, 5 do
  local stream, lease, job, in_progress, dead = unpack(KEYS, i, i + 4)
  local job_id, drain_job = ARGV[(i - 5) / 5 * 2 + 4], ARGV[(i - 5) / 5 * 2 + 5]
  local entries = redis.call('XLEN', stream)
  waiting, dead_letters = waiting + entries, dead_letters + redis.call('XLEN', dead)
  if entries > 0 and redis.call('EXISTS', lease) == 0 then
    local claimed = redis.call('EXISTS', in_progress) == 1
    local orphaned = claimed and is_orphaned(job_id, in_progress)
    if orphaned then
      redis.call('DEL', in_progress)
      rescued = rescued + 1
    end
    if (orphaned or not claimed) and not will_wake_a_worker(job_id, job) then
      redis.call('SET', job, drain_job, 'PX', ARGV[1])
      wake(KEYS[1], KEYS[4], job_id, now, now)
      rescued = rescued + (orphaned and 0 or 1)
    end
  end
end
set_count('jobs', 'bytes', waiting)
set_count('dead', 'dead_bytes', dead_letters)
if waiting == 0 then
  redis.call('DEL', KEYS[3])
end
return rescued
