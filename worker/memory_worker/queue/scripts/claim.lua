#!lua flags=allow-oom
-- Claim drain jobs that are due, oldest first. As in arq, a claim is the key that marks a job as in progress.
-- Claimed partitions are returned in groups. A group is either one partition, or several partitions whose waiting
-- entries fit into one batch.
-- Invariant: a drain job is given to one worker at a time. Jobs in the queue that are not drain jobs of this queue are
-- moved to the queue of writes. If due jobs are left, another worker is woken.
--
-- KEYS  arq queue, wakeup list, queue of writes
-- ARGV  most groups, entries in a batch, how many jobs to look at, life of a claim (ms), prefix of the keys of claims,
--       prefix of the ids of drain jobs, prefix of the keys of streams
-- Returns how many foreign jobs were moved, then the partitions of each group.
local max_groups, batch_size, max_jobs = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local claim_prefix, job_prefix, stream_prefix = ARGV[5], ARGV[6], ARGV[7]
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000

-- Return the partition of a drain job, or nil for a foreign job.
local function partition_of(job_id)
  if string.sub(job_id, 1, #job_prefix) == job_prefix then
    return string.match(string.sub(job_id, #job_prefix + 1), '^%d+$')
  end
end

-- The open group is the one with the most room left in its batch.
local groups, open_group, room = {}, nil, -1

-- Return the group for a partition with so many waiting entries, or nil if there may be no further group.
local function group_for(waiting)
  if waiting <= room then
    room = room - waiting
    return open_group
  elseif #groups == max_groups then
    return nil
  end
  local group = {}
  groups[#groups + 1] = group
  if batch_size - waiting > room then
    open_group, room = group, batch_size - waiting
  end
  return group
end

local foreign, jobs_left = 0, false
for _, job_id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, max_jobs)) do
  local partition = partition_of(job_id)
  if not partition then
    redis.call('ZADD', KEYS[3], 'NX', redis.call('ZSCORE', KEYS[1], job_id), job_id)
    redis.call('ZREM', KEYS[1], job_id)
    foreign = foreign + 1
  elseif redis.call('EXISTS', claim_prefix .. job_id) == 0 then
    local group = group_for(redis.call('XLEN', stream_prefix .. partition))
    if not group then
      jobs_left = true
      break
    end
    redis.call('SET', claim_prefix .. job_id, 1, 'PX', ARGV[4])
    group[#group + 1] = tonumber(partition)
  end
end
if not jobs_left then
  redis.call('DEL', KEYS[2])
elseif redis.call('LLEN', KEYS[2]) == 0 then
  redis.call('RPUSH', KEYS[2], 1)
end
table.insert(groups, 1, foreign)
return groups
