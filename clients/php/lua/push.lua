-- Append jobs to the streams of their partitions, and wake a worker for each partition.
-- Invariant: either all jobs of the call are stored, in order, and all their partitions are woken, or nothing is stored
-- and an error says why. A repeated push with the same token stores nothing and gets the same answer.
--
-- KEYS  mw:meta, mw:backlog, mw:drain, mw:drain:wakeup, mw:since, mw:pushed:TOKEN,
--       then for each partition: mw:stream:P, arq:job:mw:drain:P
-- ARGV  number of partitions of the queue, life of a drain job (ms),
--       latest time (unix ms by Redis's clock; 0: none), most that this may be ahead of now (ms),
--       trace context of the push (may be empty), number of partitions in KEYS,
--       then for each of these partitions: P, arq job id mw:drain:P, its drain job, the drain job of its overflow stream,
--       then for each job: the place of its partition in KEYS (1, 2, ...), its contract version, its user id as text,
--       the encoded job
-- Returns the receipts of the jobs. Their partitions may be those of overflow streams.

-- Append a job to one of the two streams of its partition.
--
-- The home stream is that of all users. A user who pushes much while it is long gets the overflow stream, so that the
-- other users need not wait behind these jobs. The overflow stream of partition p is partition number P + p, if P is the
-- number of partitions. A user leaves it when it has become empty (see commit).
--
-- The order of each user is kept: ids in the overflow stream are later than those of the user's older entries in the
-- home stream, and a drain reads an entry there only if the home stream has no older one (see reading). Their second
-- number begins at 2^32, so that no id is in both streams.
--
-- Two hashes begin with the key of the streams, in which "overflow" replaces "stream":
--   overflow:p          the users of the overflow stream, each with the id of the last entry in the home stream
--   overflow:p:pushed   how many jobs each user has pushed lately while the home stream was long; expires
local FIRST_IN_OVERFLOW = '-4294967296'
local COUNTED_FOR_MS = 60000
-- Workers of an older version hold an entry with this contract version. They do not know overflow streams.
local OVERFLOW_VERSION = 2

-- Return the key of another partition.
local function renumbered(key, number)
  return (string.gsub(key, '%d+$', number))
end

-- Record the time if a stream of this length is new: Redis may have lost an older stream, and then nothing is known of
-- the receipts from before.
local function record_if_new(key, number, length, since, now)
  if length == 0 and redis.call('EXISTS', key) == 0 then
    redis.call('HSET', since, number, string.format('%d', now))
  end
end

-- Return the streams of a partition. `home` is the key of the home stream, which is long from `burst` entries on. While
-- it is long, a user may push `burst` jobs there. Without `burst`, nobody begins to overflow. `jobs` is how many will be
-- pushed, if that is known. Return nothing if all of them belong to the home stream and none is counted.
local function open_streams(home, number, partitions, burst, jobs, since, now)
  local users = string.sub(home, 1, -8 - #number) .. 'overflow:' .. number
  local length, has_overflow_users = redis.call('XLEN', home), redis.call('EXISTS', users) == 1
  if jobs and not has_overflow_users and (not burst or length + jobs <= tonumber(burst)) then
    return record_if_new(home, number, length, since, now)
  end
  return {
    key = home, number = number, partitions = partitions, users = users, burst = tonumber(burst or math.huge),
    length = length, has_overflow_users = has_overflow_users, since = since, now = now,
  }
end

-- Add an entry with an id of this millisecond, or a later one if the last entry has a later one. Return its id.
local function add_to_overflow(stream, ms, fields)
  local id
  if stream.last_ms and stream.last_ms >= ms then
    id = redis.call('XADD', stream.key, stream.last_ms .. '-*', unpack(fields))
  else
    id = redis.pcall('XADD', stream.key, ms .. FIRST_IN_OVERFLOW, unpack(fields))
    if type(id) == 'table' then  -- the last entry is of this millisecond
      id = redis.pcall('XADD', stream.key, ms .. '-*', unpack(fields))
    end
    if type(id) == 'table' then  -- Redis's clock was set back
      id = redis.call('XADD', stream.key, '*', unpack(fields))
    end
  end
  stream.last_ms = tonumber(string.match(id, '^%d+'))
  return id
end

-- Count a job that was pushed while the home stream was long. With too many of them, the user begins to overflow.
local function count(streams, user, id)
  local counts = streams.users .. ':pushed'
  local pushed = redis.call('HINCRBY', counts, user, 1)
  if pushed == 1 then
    redis.call('PEXPIRE', counts, COUNTED_FOR_MS, 'NX')
  end
  if pushed >= streams.burst then
    redis.call('HSET', streams.users, user, id)
    streams.has_overflow_users = true
  end
end

local function overflow_of(streams)
  local number = string.format('%d', streams.number + streams.partitions)
  local overflow = {key = renumbered(streams.key, number), number = number}
  record_if_new(overflow.key, number, 0, streams.since, streams.now)
  return overflow
end

-- Append a job of a user to one of these streams. `fields` are those of its entry, of which the second is the contract
-- version. Return its receipt.
local function append_job(streams, user, fields)
  local last_at_home = streams.has_overflow_users and redis.call('HGET', streams.users, user)
  if last_at_home then
    streams.overflow = streams.overflow or overflow_of(streams)
    if (tonumber(fields[2]) or 0) < OVERFLOW_VERSION then
      fields[2] = OVERFLOW_VERSION
    end
    local ms = math.max(streams.now, tonumber(string.match(last_at_home, '^%d+')))
    return streams.overflow.number .. '/' .. add_to_overflow(streams.overflow, ms, fields)
  end
  if not streams.is_used then
    record_if_new(streams.key, streams.number, streams.length, streams.since, streams.now)
    streams.is_used = true
  end
  local id = redis.call('XADD', streams.key, '*', unpack(fields))
  if streams.length >= streams.burst then
    count(streams, user, id)
  end
  streams.length = streams.length + 1
  return streams.number .. '/' .. id
end
local COPY_MARGIN_MS = 2000
local trace, partitions_given = ARGV[5], tonumber(ARGV[6])
local first_job = 7 + 4 * partitions_given
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Return the receipts that an earlier copy of this push was given, if there was one.
-- They are written again, because WAIT passes at once on a connection that has written nothing.
local function receipts_of_earlier_copy()
  local found, receipts = redis.call('GET', KEYS[6]), {}
  if not found then
    return
  end
  redis.call('SET', KEYS[6], found, 'KEEPTTL')
  for receipt in string.gmatch(found, '%S+') do
    receipts[#receipts + 1] = receipt
  end
  return receipts
end

-- After the deadline the caller has given up and may have pushed other jobs, which must not be overtaken. A deadline
-- that is too far ahead was computed before Redis's clock was set back.
local function is_too_late()
  local left = tonumber(ARGV[3]) - now
  return ARGV[3] ~= '0' and (left < 0 or left > tonumber(ARGV[4]))
end

-- Return the number of jobs and bytes in this push; or nil and an error if a job is too large.
local function count_jobs(max_job_bytes)
  local jobs, bytes = 0, 0
  for i = first_job + 3, #ARGV, 4 do
    if max_job_bytes and #ARGV[i] > tonumber(max_job_bytes) then
      return nil, 'TOOLARGE ' .. #ARGV[i] .. ' ' .. max_job_bytes
    end
    jobs, bytes = jobs + 1, bytes + #ARGV[i]
  end
  return {jobs = jobs, bytes = bytes}
end

-- Return an error if the queue has no room for these jobs. Dead letters take room, too.
local function no_room_for(pushed, max_jobs, max_bytes)
  local stored = redis.call('HMGET', KEYS[2], 'jobs', 'bytes', 'dead', 'dead_bytes')
  local jobs, bytes = (stored[1] or 0) + (stored[3] or 0), (stored[2] or 0) + (stored[4] or 0)
  if max_jobs and jobs + pushed.jobs > tonumber(max_jobs) then
    return 'QUEUEFULL jobs ' .. max_jobs
  elseif max_bytes and bytes + pushed.bytes > tonumber(max_bytes) then
    return 'QUEUEFULL bytes ' .. max_bytes
  end
end

-- Append all jobs. Return the streams of the partitions in which somebody may overflow, and the receipts.
local function append_all(burst, jobs)
  local opened, receipts, since = {}, {}, KEYS[5]
  for n = 1, partitions_given do
    opened[n] = open_streams(KEYS[5 + 2 * n], ARGV[3 + 4 * n], ARGV[1], burst, jobs, since, now)
  end
  for i = first_job, #ARGV, 4 do
    local n = tonumber(ARGV[i])
    local fields = {'v', ARGV[i + 1], 'j', ARGV[i + 3]}
    if trace ~= '' then
      fields[5], fields[6] = 't', trace
    end
    if opened[n] then
      receipts[#receipts + 1] = append_job(opened[n], ARGV[i + 2], fields)
    else
      local id = redis.call('XADD', KEYS[5 + 2 * n], '*', unpack(fields))
      receipts[#receipts + 1] = ARGV[3 + 4 * n] .. '/' .. id
    end
  end
  return opened, receipts
end

local function wake(job_key, job_id, job)
  if redis.call('SET', job_key, job, 'PX', ARGV[2], 'NX') then
    redis.call('ZADD', KEYS[3], now, job_id)
    if redis.call('LLEN', KEYS[4]) == 0 then
      redis.call('RPUSH', KEYS[4], 1)
    end
  end
end

local function wake_workers(opened)
  for n = 1, partitions_given do
    local job_key, job_id, streams = KEYS[6 + 2 * n], ARGV[4 + 4 * n], opened[n]
    if not streams or streams.is_used then
      wake(job_key, job_id, ARGV[5 + 4 * n])
    end
    if streams and streams.overflow then
      local number = streams.overflow.number
      wake(renumbered(job_key, number), renumbered(job_id, number), ARGV[6 + 4 * n])
    end
  end
end

local receipts = receipts_of_earlier_copy()
if receipts then
  return receipts
end
if is_too_late() then
  return redis.error_reply('TOOLATE ' .. now)
end
local meta = redis.call('HMGET', KEYS[1], 'partitions', 'max_jobs', 'max_bytes', 'max_job_bytes', 'user_burst')
if meta[1] and meta[1] ~= ARGV[1] then
  return redis.error_reply('PARTITIONS ' .. meta[1])
end
local pushed, too_large = count_jobs(meta[4])
local refusal = too_large or no_room_for(pushed, meta[2], meta[3])
if refusal then
  return redis.error_reply(refusal)
end

if not meta[1] then
  redis.call('HSET', KEYS[1], 'partitions', ARGV[1])
  redis.call('HSET', KEYS[5], 'epoch', now)
end
local opened
opened, receipts = append_all(meta[5], pushed.jobs)
redis.call('HINCRBY', KEYS[2], 'jobs', pushed.jobs)
redis.call('HINCRBY', KEYS[2], 'bytes', pushed.bytes)
-- Remember the receipts for as long as a copy of this push could still be stored.
local copies_for = ARGV[3] == '0' and tonumber(ARGV[4]) or tonumber(ARGV[3]) - now
redis.call('SET', KEYS[6], table.concat(receipts, ' '), 'PX', copies_for + COPY_MARGIN_MS)
wake_workers(opened)
return receipts
