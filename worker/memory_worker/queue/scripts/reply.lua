#!lua flags=allow-oom
-- Send replies to their callers, and remove the jobs from the queue.
-- Invariants: every reply expires. A job that its caller has taken back gets no reply. All large replies that were not
-- taken yet have at most so many bytes, and leave a tenth of Redis's memory to writes. A large reply that has no room is
-- replaced by its fallback.
--
-- KEYS  arq queue, large replies, their bytes, then for each reply: its list, or arq's key for the result
-- ARGV  most bytes of large replies, smallest size of a large reply, longest life (ms), then for each reply: job id (or
--       nothing if the job was in the list of calls), life (ms), "list" or "result", the reply, the fallback
-- Returns how many replies had no room.
local refused = 0
local max_bytes, large, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Remove the records of large replies that were taken or have expired. Return the bytes of the others.
local function count_bytes()
  local bytes = 0
  local records = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '+inf', 'WITHSCORES')
  for i = 1, #records, 2 do
    local record, expires_at = records[i], tonumber(records[i + 1])
    local size, key = record:match('^(%d+):(.*)$')
    if expires_at > now and redis.pcall('EXISTS', key) == 1 then
      bytes = bytes + tonumber(size)
    else
      redis.call('ZREM', KEYS[2], record)
    end
  end
  redis.call('SET', KEYS[3], bytes, 'PX', longest)
  return bytes
end

local function leaves_room_for_writes(size)
  local info = redis.call('INFO', 'memory')
  local used, limit = tonumber(info:match('used_memory:(%d+)')), tonumber(info:match('maxmemory:(%d+)'))
  return limit == 0 or used + size <= 0.9 * limit
end

-- Record a large reply. Return false if there is no room for it.
local function take_room(key, size, life)
  if not leaves_room_for_writes(size) then
    return false
  end
  local bytes = tonumber(redis.call('GET', KEYS[3]) or 0)
  if bytes + size > max_bytes then
    bytes = count_bytes()
    if bytes + size > max_bytes then
      return false
    end
  end
  redis.call('ZADD', KEYS[2], now + life, size .. ':' .. key)
  redis.call('PEXPIRE', KEYS[2], longest)
  redis.call('SET', KEYS[3], bytes + size, 'PX', longest)
  return true
end

-- Return whether the caller of a job still waits. If the job was in the list of calls, and its caller has taken it back,
-- then the key of the reply is of another type (cancel.lua).
local function is_awaited(job_id, key)
  if job_id == '' then
    return type(redis.pcall('LLEN', key)) == 'number'
  end
  return redis.call('ZREM', KEYS[1], job_id) == 1
end

for i = 4, #KEYS do
  local at = 5 * i - 16
  local job_id, life, kind, reply, fallback = unpack(ARGV, at, at + 4)
  if is_awaited(job_id, KEYS[i]) then
    if #reply >= large and not take_room(KEYS[i], #reply, life) then
      reply = fallback
      refused = refused + 1
    end
    -- pcall: if one caller's key has the wrong type, the others still get their replies.
    if kind == 'result' then
      redis.pcall('SET', KEYS[i], reply, 'PX', life)
    elseif type(redis.pcall('RPUSH', KEYS[i], reply)) == 'number' then
      redis.call('PEXPIRE', KEYS[i], life)
    end
  end
end
return refused
