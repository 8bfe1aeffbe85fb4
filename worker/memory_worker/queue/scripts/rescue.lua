#!lua flags=allow-oom
-- Rescue partitions: find those that have entries but no drain and no usable drain job, and queue their drain job.
-- A claim without a lease is normal for a moment, while a drain begins or ends. So a claim is removed only after the
-- same claim has been seen without a lease for the grace period.
-- A drain job that is due later than the longest delay was queued before Redis's clock was set back, so it is queued
-- again.
-- Invariant: within the grace period or the longest delay, each partition with entries has a lease, or a drain job that
-- a worker will get.
-- It also corrects the totals of waiting jobs and dead letters, in case a stream was changed without these scripts.
--
-- KEYS  arq queue, backlog, orphaned, wakeup list, paused, then for each partition: stream, lease, arq job, arq in-progress,
--       dead letters
-- ARGV  life of a drain job (ms), grace period (ms), longest delay of a drain job (ms), then for each partition:
--       arq job id, arq job
-- Returns how many partitions were rescued. While the queue is paused, none counts, because all of them wait.
-- use waking
-- use pausing
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Return whether this claim has been seen without a lease for the grace period. A claim is identified by its expiry.
local function is_orphaned(job_id, in_progress)
  local claim = redis.call('PEXPIRETIME', in_progress)
  local seen_claim, since = string.match(redis.call('HGET', KEYS[3], job_id) or '', '^(%-?%d+) (%d+)$')
  if tonumber(seen_claim) ~= claim or tonumber(since) > now then
    redis.call('HSET', KEYS[3], job_id, string.format('%d %d', claim, now))
    return false
  end
  return now - tonumber(since) >= tonumber(ARGV[2])
end

-- Return whether a worker will get the drain job in time.
local function is_queued(job_id, job)
  local due = redis.call('ZSCORE', KEYS[1], job_id)
  return due and tonumber(due) <= now + tonumber(ARGV[3]) and redis.call('EXISTS', job) == 1
end

-- Correct a total. Its bytes are only removed if there are no entries.
local function set_total(entries_field, bytes_field, entries)
  if entries > 0 then
    redis.call('HSET', KEYS[2], entries_field, entries)
  else
    redis.call('HDEL', KEYS[2], entries_field, bytes_field)
  end
end

local rescued, waiting, dead_letters = 0, 0, 0
for i = 6, #KEYS, 5 do
  local stream, lease, job_key, in_progress, dead = unpack(KEYS, i, i + 4)
  local job_id, job = ARGV[(i - 6) / 5 * 2 + 4], ARGV[(i - 6) / 5 * 2 + 5]
  local entries = redis.call('XLEN', stream)
  waiting, dead_letters = waiting + entries, dead_letters + redis.call('XLEN', dead)
  if entries > 0 and redis.call('EXISTS', lease) == 0 then
    local claimed = redis.call('EXISTS', in_progress) == 1
    local orphaned = claimed and is_orphaned(job_id, in_progress)
    if orphaned then
      redis.call('DEL', in_progress)
      rescued = rescued + 1
    end
    if (orphaned or not claimed) and not is_queued(job_id, job_key) then
      redis.call('SET', job_key, job, 'PX', ARGV[1])
      wake(KEYS[1], KEYS[4], job_id, now, now)
      rescued = rescued + (orphaned and 0 or 1)
    end
  end
end
set_total('jobs', 'bytes', waiting)
set_total('dead', 'dead_bytes', dead_letters)
if waiting == 0 then
  redis.call('DEL', KEYS[3])
end
return is_paused(KEYS[5]) and 0 or rescued
