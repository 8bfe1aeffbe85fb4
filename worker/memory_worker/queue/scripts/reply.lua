#!lua flags=allow-oom
-- Send replies, each to where its caller looks for it, and take their jobs off the queue.
-- Invariants: nothing stays for ever because nobody takes it. A job that its caller has taken off the queue gets no reply.
-- Large replies that nobody has taken yet hold no more than so many bytes together, and leave a tenth of Redis to writes:
-- one that is too many is replaced. Returns how many were.
--
-- KEYS  arq queue, large replies, their bytes, then for each reply: a list, or a key of arq's
-- ARGV  most bytes of large replies, bytes from which on a reply is large, longest life (ms), then for each reply:
--       job id, life (ms), "list" or "result", the reply, what is sent instead where it has no room
local refused = 0
local most, large, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Forget those that were taken or have expired; return the bytes of the others.
local function bytes_left()
  local bytes = 0
  local noted = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', '+inf', 'WITHSCORES')
  for i = 1, #noted, 2 do
    local size, key = noted[i]:match('^(%d+):(.*)$')
    if tonumber(noted[i + 1]) > now and redis.pcall('EXISTS', key) == 1 then
      bytes = bytes + tonumber(size)
    else
      redis.call('ZREM', KEYS[2], noted[i])
    end
  end
  redis.call('SET', KEYS[3], bytes, 'PX', longest)
  return bytes
end

local function leaves_room_for_writes(size)
  local info = redis.call('INFO', 'memory')
  local used, all = tonumber(info:match('used_memory:(%d+)')), tonumber(info:match('maxmemory:(%d+)'))
  return all == 0 or used + size <= 0.9 * all
end

local function has_room(key, size, life)
  if not leaves_room_for_writes(size) then
    return false
  end
  local bytes = tonumber(redis.call('GET', KEYS[3]) or 0)
  if bytes + size > most then
    bytes = bytes_left()
    if bytes + size > most then
      return false
    end
  end
  redis.call('ZADD', KEYS[2], now + life, size .. ':' .. key)
  redis.call('PEXPIRE', KEYS[2], longest)
  redis.call('SET', KEYS[3], bytes + size, 'PX', longest)
  return true
end

for i = 4, #KEYS do
  local at = 5 * i - 16
  local life, body = ARGV[at + 1], ARGV[at + 3]
  if redis.call('ZREM', KEYS[1], ARGV[at]) == 1 then
    if #body >= large and not has_room(KEYS[i], #body, life) then
      body = ARGV[at + 4]
      refused = refused + 1
    end
    -- What one caller has done to its own key is not to be felt by the others.
    if ARGV[at + 2] == 'result' then
      redis.pcall('SET', KEYS[i], body, 'PX', life)
    elseif type(redis.pcall('RPUSH', KEYS[i], body)) == 'number' then
      redis.call('PEXPIRE', KEYS[i], life)
    end
  end
end
return refused
