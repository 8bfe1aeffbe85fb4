#!lua flags=allow-oom
-- Claim drain jobs that are due, oldest first. As in arq, a claim is the key that marks a job as in progress. Drain jobs
-- of overflow streams count as a second younger, so that a few users with many entries delay all others less.
-- Claimed partitions are returned in groups. A group is either one partition, or several partitions whose waiting
-- entries fit into one batch. As many partitions are opened at once as fit into one batch in all.
-- Invariant: a drain job is given to one worker at a time. Jobs in the queue that are not drain jobs of this queue are
-- moved to the queue of writes. If due jobs are left, another worker is woken.
-- While the queue is paused, nothing is claimed or moved. The drain jobs stay in the queue.
--
-- KEYS  arq queue, wakeup list, queue of writes, meta, paused
-- ARGV  most groups, entries in a batch, how many jobs to look at, life of a claim (ms), prefix of the keys of claims,
--       prefix of the ids of drain jobs, prefixes of the keys of leases, guarded users, attempts and streams,
--       number of partitions, then, to open partitions: read options in MessagePack (see reading), life of a lease (ms),
--       bytes in a batch, token
-- Returns how many foreign jobs were moved, then for each group a list: its partitions, then for each of them that was
-- opened what opening says.
-- use opening
-- use pausing
if is_paused(KEYS[5]) then
  redis.call('DEL', KEYS[2])
  return {0}
end
local max_groups, batch_size, max_jobs = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local claim_prefix, job_prefix = ARGV[5], ARGV[6]
local lease_prefix, guarded_prefix, attempts_prefix, stream_prefix = unpack(ARGV, 7, 10)
local partitions, opens = tonumber(ARGV[11]), ARGV[12] ~= nil
local OVERFLOW_PENALTY_MS = 1000
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000

-- Return the partition of a drain job, or nil for a foreign job.
local function partition_of(job_id)
  if string.sub(job_id, 1, #job_prefix) == job_prefix then
    return string.match(string.sub(job_id, #job_prefix + 1), '^%d+$')
  end
end

-- Return the ids of the jobs that are due, in the order in which they are claimed.
local function due_jobs()
  local found = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, max_jobs)
  local ids, places = {}, {}
  for i = 1, #found, 2 do
    local id, score = found[i], tonumber(found[i + 1])
    local is_overflow = tonumber(partition_of(id) or 0) >= partitions
    ids[#ids + 1] = id
    places[id] = {score + (is_overflow and OVERFLOW_PENALTY_MS or 0), i}
  end
  table.sort(ids, function(a, b)
    local one, other = places[a], places[b]
    return one[1] < other[1] or (one[1] == other[1] and one[2] < other[2])
  end)
  return ids
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
  groups[#groups + 1] = {group}
  if batch_size - waiting > room then
    open_group, room = group, batch_size - waiting
  end
  return group
end

local foreign, jobs_left = 0, false
for _, job_id in ipairs(due_jobs()) do
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

local function release(group)
  for _, partition in ipairs(group) do
    if redis.pcall('GET', lease_prefix .. partition) == ARGV[15] then
      redis.call('DEL', lease_prefix .. partition)
    end
  end
end

-- Open the partitions of a group until the batch is full. If one of them has a key of a wrong type, none is opened: its
-- drain will find out which one, and leave the others alone.
local function open_group(group, options, opening, room)
  local opened = {group}
  for _, partition in ipairs(group) do
    if room.entries <= 0 or room.bytes <= 0 then
      break
    end
    local home = partition % partitions
    local keys = keys_of(
      lease_prefix .. partition, guarded_prefix .. home, attempts_prefix .. partition, stream_prefix .. partition,
      stream_prefix .. home)
    local is_open, found = pcall(open_partition, options, opening, keys, ARGV[15], batch_size, room)
    if not is_open then
      release(group)
      return {group}
    end
    opened[#opened + 1] = found
  end
  return opened
end

-- Open partitions of all groups, as many as fit into one batch.
local function open_groups()
  local options, room = cmsgpack.unpack(ARGV[12]), {entries = batch_size, bytes = tonumber(ARGV[14])}
  local opening = {ttl = ARGV[13], skip_quarantined = true}
  for i, group in ipairs(groups) do
    groups[i] = open_group(group[1], options, opening, room)
  end
end

local published = redis.call('HGET', KEYS[4], 'partitions')
if opens and (not published or tonumber(published) == partitions) then
  open_groups()
end
table.insert(groups, 1, foreign)
return groups
