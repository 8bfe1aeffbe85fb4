#!lua flags=allow-oom
-- Remove a batch from the head of a partition: what was applied leaves, what never can be becomes a dead letter.
-- Invariant: an entry leaves the stream in the same step in which it is counted as applied or stands in the dead
-- letters, and only for the drain that holds the lease. Done twice, because a reply was lost, it counts once.
-- The lease is renewed or, when nothing is left, given back.
--
-- Returns how many entries are left.
--
-- KEYS  lease, stream, applied, dead letters, backlog, attempts, claims, superseded
-- ARGV  token, life of the lease (ms), last id of the batch, the id right behind it, bytes,
--       number of words that follow about dead letters, for each: id, reason, detail, op, user id, claim,
--       number of older letters that are superseded, their ids, number of those purged, their ids,
--       then the ids of those whose claim is settled
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return redis.error_reply('LEASELOST')
end
redis.call('HDEL', KEYS[6], 'head', 'last', 'tries', 'token')

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local letters_end = 6 + tonumber(ARGV[6])
for i = 7, letters_end, 6 do
  local entry = redis.call('XRANGE', KEYS[2], ARGV[i], ARGV[i])[1]
  if entry then
    local letter = {'reason', ARGV[i + 1], 'detail', ARGV[i + 2], 'op', ARGV[i + 3], 'user_id', ARGV[i + 4], 'at', now}
    -- Nothing else of it: a foreign entry may have thousands of fields, or some that are named like ours.
    for field = 1, #entry[2], 2 do
      if entry[2][field] == 'v' or entry[2][field] == 'j' then
        letter[#letter + 1] = entry[2][field]
        letter[#letter + 1] = entry[2][field + 1]
      end
    end
    local added = redis.pcall('XADD', KEYS[4], ARGV[i], unpack(letter))
    if type(added) == 'table' and added.err then
      -- The letters are ahead of their stream only when somebody removed the stream by hand: keep it all the same.
      redis.call('XADD', KEYS[4], '*', unpack(letter))
    end
    if ARGV[i + 5] ~= '' then
      redis.call('HSET', KEYS[7], ARGV[i], ARGV[i + 5])
    end
  end
end

local superseded_end = letters_end + 1 + tonumber(ARGV[letters_end + 1])
for i = letters_end + 2, superseded_end do
  if redis.call('HEXISTS', KEYS[7], ARGV[i]) == 1 then
    redis.call('SADD', KEYS[8], ARGV[i])
  end
end
local purged_end = superseded_end + 1 + tonumber(ARGV[superseded_end + 1])
for i = superseded_end + 2, #ARGV do
  if i <= purged_end and redis.call('XDEL', KEYS[4], ARGV[i]) == 0 and redis.call('HEXISTS', KEYS[7], ARGV[i]) == 1 then
    -- Not among the letters any more, but not settled either: its replay waits, and must be refused in its turn.
    redis.call('SADD', KEYS[8], ARGV[i])
  else
    redis.call('HDEL', KEYS[7], ARGV[i])
    redis.call('SREM', KEYS[8], ARGV[i])
  end
end

local removed = redis.call('XTRIM', KEYS[2], 'MINID', '=', ARGV[4])
local left = redis.call('XLEN', KEYS[2])
if left > 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
else
  redis.call('DEL', KEYS[1])
end
if removed == 0 then
  -- Committed before, and the reply was lost.
  return left
end
local mark = {'XADD', KEYS[3], 'MAXLEN', '=', 1, ARGV[3], 'jobs', removed}
local marked = redis.pcall(unpack(mark))
if type(marked) == 'table' and marked.err then
  -- The mark is ahead of its stream only when somebody removed the stream by hand: begin the mark anew.
  redis.call('DEL', KEYS[3])
  redis.call(unpack(mark))
end
redis.call('HINCRBY', KEYS[5], 'bytes', -ARGV[5])
if redis.call('HINCRBY', KEYS[5], 'jobs', -removed) <= 0 then
  redis.call('DEL', KEYS[5])
end
return left
