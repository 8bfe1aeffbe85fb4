-- Move writes of arq's own client into the streams of their partitions, and store arq's results.
-- Invariant: a write leaves arq's queue in the same step in which its entry is stored, in the given order, up to the
-- first write that has no room. So each write is stored once, however many workers try it and however late. A write that
-- was taken over or replaced since it was read is skipped.
--
-- KEYS  mw:meta, mw:backlog, mw:drain, mw:drain:wakeup, mw:since, mw:writes,
--       then for each partition: mw:stream:P, arq:job:mw:drain:P
-- ARGV  number of partitions of the queue, life of a drain job (ms), life of a result (ms), prefix of the keys of
--       records, prefix of the keys of results, number of partitions in KEYS,
--       then for each of these partitions: P, arq job id mw:drain:P, its drain job, the drain job of its overflow stream,
--       then for each write: id, due time, size of the record, its SHA-1 (empty: it was not read), the place of its
--       partition in KEYS (1, 2, ...), contract version, the encoded job (empty: the record itself), whether (0 or 1) the
--       result is JSON, its beginning and its end (between them comes the receipt, unless the end is empty), user id as
--       text
-- Returns the limit that was reached (jobs MAX, bytes MAX, or empty), then for each write up to there its receipt, which
-- is empty if it was skipped.
-- use waking
-- use counting
-- use routing
local partitions_given = tonumber(ARGV[6])
local first_write, fields = 7 + 4 * partitions_given, 11
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local meta = redis.call('HMGET', KEYS[1], 'partitions', 'max_jobs', 'max_bytes', 'user_burst')
if meta[1] and meta[1] ~= ARGV[1] then
  return redis.error_reply('PARTITIONS ' .. meta[1])
end
local totals = redis.call('HMGET', KEYS[2], 'jobs', 'bytes', 'dead', 'dead_bytes')
local jobs, bytes = (totals[1] or 0) + (totals[3] or 0), (totals[2] or 0) + (totals[4] or 0)

-- Return the record of a write, or nil if the write was taken over or replaced since it was read.
local function unchanged_record(write)
  local record = redis.call('ZSCORE', KEYS[6], write.id) == write.due and redis.pcall('GET', ARGV[4] .. write.id)
  if type(record) == 'string' and #record == tonumber(write.size)
      and (write.sha1 == '' or redis.sha1hex(record) == write.sha1) then
    return record
  end
end

-- Return the limit that one more job of this size would exceed, if there is one.
local function limit_reached(size)
  if meta[2] and jobs + 1 > tonumber(meta[2]) then
    return 'jobs ' .. meta[2]
  elseif meta[3] and bytes + size > tonumber(meta[3]) then
    return 'bytes ' .. meta[3]
  end
end

local function result_of(write, receipt)
  if write.tail == '' then
    return write.head
  end
  local text = write.json == '1' and '"' .. receipt .. '"' or '\217' .. string.char(#receipt) .. receipt
  return write.head .. text .. write.tail
end

local opened = {}
for n = 1, partitions_given do
  opened[n] = open_streams(KEYS[5 + 2 * n], ARGV[3 + 4 * n], ARGV[1], meta[4], nil, KEYS[5], now)
end

-- Store the entry first: if Redis is full, this fails and nothing has changed.
local function move(write, job)
  local receipt = append_job(opened[write.place], write.user, {'v', write.version, 'j', job})
  add_waiting(KEYS[2], 1, #job)
  jobs, bytes = jobs + 1, bytes + #job
  redis.call('SET', ARGV[5] .. write.id, result_of(write, receipt), 'PX', ARGV[3])
  redis.call('ZREM', KEYS[6], write.id)
  redis.call('DEL', ARGV[4] .. write.id)
  return receipt
end

local function wake_for(job_key, job_id, job)
  if redis.call('SET', job_key, job, 'PX', ARGV[2], 'NX') then
    wake(KEYS[3], KEYS[4], job_id, now, now)
  end
end

local function wake_workers()
  for n, streams in ipairs(opened) do
    local job_key, job_id, overflow = KEYS[6 + 2 * n], ARGV[4 + 4 * n], streams.overflow
    if streams.is_used then
      wake_for(job_key, job_id, ARGV[5 + 4 * n])
    end
    if overflow then
      wake_for(renumbered(job_key, overflow.number), renumbered(job_id, overflow.number), ARGV[6 + 4 * n])
    end
  end
end

local receipts = {''}
for i = first_write, #ARGV, fields do
  local write = {place = tonumber(ARGV[i + 4])}
  write.id, write.due, write.size, write.sha1 = unpack(ARGV, i, i + 3)
  write.version, write.job, write.json, write.head, write.tail, write.user = unpack(ARGV, i + 5, i + 10)
  local record = unchanged_record(write)
  if record then
    local job = write.job ~= '' and write.job or record
    local limit = limit_reached(#job)
    if limit then
      receipts[1] = limit
      break
    end
    receipts[#receipts + 1] = move(write, job)
  else
    receipts[#receipts + 1] = ''
  end
end
wake_workers()
return receipts
