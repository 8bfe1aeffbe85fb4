#!lua flags=allow-oom
-- Give a lease back, and note that its drain came to an end alive.
-- Invariant: nobody's lease but the caller's own is removed.
--
-- KEYS  lease, attempts
-- ARGV  token, for how long it must still be held (ms; 0: not at all), the id of the process
local held = redis.call('GET', KEYS[1]) == ARGV[1]
local tried = ' ' .. (redis.call('HGET', KEYS[2], 'tried') or '') .. ' '
local from, to = string.find(tried, ' ' .. ARGV[3] .. ' ', 1, true)
if from then
  -- Whoever has the lease by now goes on with the note; only this process is no death.
  local left = held and '' or string.match(string.sub(tried, 1, from) .. string.sub(tried, to), '^%s*(.-)%s*$')
  if left == '' then
    redis.call('HDEL', KEYS[2], 'head', 'last', 'tried')
  else
    redis.call('HSET', KEYS[2], 'tried', left)
  end
end
if not held then
  return 0
end
if ARGV[2] ~= '0' then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return redis.call('DEL', KEYS[1])
