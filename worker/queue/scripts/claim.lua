#!lua flags=allow-oom
-- Claim doorbells that are due, oldest first, as arq claims a job: by its mark that the job is in progress.
-- Invariant: a doorbell is given to one worker at a time; what is no doorbell of ours leaves the queue.
--
-- KEYS  arq queue
-- ARGV  most doorbells, how many to look at, life of a mark (ms), what stands before a doorbell's id in the name of its
--       job's key and of its mark's, how the ids of our doorbells begin
-- Returns how many strangers were removed, then the ids claimed.
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local found, own = {0}, ARGV[6]
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(ARGV[2]))) do
  if #found > tonumber(ARGV[1]) then
    break
  end
  if string.sub(id, 1, #own) ~= own or not string.match(string.sub(id, #own + 1), '^%d+$') then
    redis.call('ZREM', KEYS[1], id)
    found[1] = found[1] + 1
  elseif redis.call('EXISTS', ARGV[5] .. id) == 0 then
    redis.call('SET', ARGV[5] .. id, 1, 'PX', ARGV[3])
    found[#found + 1] = id
  end
end
return found
