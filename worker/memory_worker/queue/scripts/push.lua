-- Append jobs to the streams of their partitions and ring the doorbell of each.
-- Invariant: all jobs of the call are stored, in order, with every doorbell rung; or none is, and an error says why.
--
-- KEYS  meta, backlog, arq queue, bell, then for each partition: stream, arq job
-- ARGV  partitions, contract version, life of a doorbell (ms), latest time at which this may be done (unix ms by Redis's
--       clock; 0: any), number of partitions in KEYS,
--       then for each partition: arq job id, arq job; then for each job: which partition (1..n), body
local named = tonumber(ARGV[5])
local first_job = 6 + 2 * named
local jobs = (#ARGV - first_job + 1) / 2

-- A push that the caller has given up must not be done after what the caller pushed since.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[4] ~= '0' and now > tonumber(ARGV[4]) then
  return redis.error_reply('TOOLATE ' .. now)
end

local meta = redis.call('HMGET', KEYS[1], 'partitions', 'max_jobs', 'max_bytes')
if not meta[1] then
  redis.call('HSET', KEYS[1], 'partitions', ARGV[1])
elseif meta[1] ~= ARGV[1] then
  return redis.error_reply('PARTITIONS ' .. meta[1])
end

local bytes = 0
for i = first_job + 1, #ARGV, 2 do
  bytes = bytes + #ARGV[i]
end
local waiting = redis.call('HMGET', KEYS[2], 'jobs', 'bytes')
if meta[2] and tonumber(waiting[1] or 0) + jobs > tonumber(meta[2]) then
  return redis.error_reply('QUEUEFULL jobs ' .. meta[2])
end
if meta[3] and tonumber(waiting[2] or 0) + bytes > tonumber(meta[3]) then
  return redis.error_reply('QUEUEFULL bytes ' .. meta[3])
end

local ids = {}
for i = first_job, #ARGV, 2 do
  local stream = KEYS[3 + 2 * tonumber(ARGV[i])]
  ids[#ids + 1] = redis.call('XADD', stream, '*', 'v', ARGV[2], 'j', ARGV[i + 1])
end
redis.call('HINCRBY', KEYS[2], 'jobs', jobs)
redis.call('HINCRBY', KEYS[2], 'bytes', bytes)

for n = 1, named do
  local job_id, job = ARGV[4 + 2 * n], ARGV[5 + 2 * n]
  if redis.call('SET', KEYS[4 + 2 * n], job, 'PX', ARGV[3], 'NX') then
    redis.call('ZADD', KEYS[3], now, job_id)
    if redis.call('LLEN', KEYS[4]) == 0 then
      redis.call('RPUSH', KEYS[4], 1)
    end
  end
end
return ids
