#!lua flags=allow-oom
-- Remove batches from the heads of their partitions: what was applied leaves, what never can be becomes a dead letter.
-- Invariant: an entry leaves the stream in the same step in which it is counted as applied or stands in the dead
-- letters, and only for the drain that holds the lease. Done twice, because a reply was lost, it counts once.
-- A lease is renewed or, when nothing is left, given back.
--
-- KEYS  backlog, then for each partition: lease, stream, applied, dead letters, attempts, claims, superseded
-- ARGV  life of a lease (ms; 0: it is given back, whatever is left), then for each partition: token, last id of the
--       batch, the id right behind it, bytes, and four lists, each with its length in front: words about dead letters
--       (for each: id, reason, detail, op, user id, claim), the ids of older letters that are superseded, of those
--       purged, and of those whose claim is settled
-- Returns for each partition how many entries are left; less than 0: its lease is held no longer, nothing was changed.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at = 1

local function take(count)
  local words = {}
  for i = 1, count do
    words[i] = ARGV[at + i]
  end
  at = at + count
  return words
end

local function take_list()
  return take(tonumber(take(1)[1]))
end

local function bury(stream, dead, claims, words)
  for i = 1, #words, 6 do
    local id, claim = words[i], words[i + 5]
    local entry = redis.call('XRANGE', stream, id, id)[1]
    if entry then
      local letter = {'reason', words[i + 1], 'detail', words[i + 2], 'op', words[i + 3], 'user_id', words[i + 4], 'at', now}
      -- Nothing else of it: a foreign entry may have thousands of fields, or some that are named like ours.
      for field = 1, #entry[2], 2 do
        if entry[2][field] == 'v' or entry[2][field] == 'j' then
          letter[#letter + 1] = entry[2][field]
          letter[#letter + 1] = entry[2][field + 1]
        end
      end
      local added = redis.pcall('XADD', dead, id, unpack(letter))
      if type(added) == 'table' and added.err then
        -- The letters are ahead of their stream only when somebody removed the stream by hand: keep it all the same.
        redis.call('XADD', dead, '*', unpack(letter))
      end
      if claim ~= '' then
        redis.call('HSET', claims, id, claim)
      end
    end
  end
end

local function settle(dead, claims, superseded, lists)
  for _, id in ipairs(lists.superseded) do
    if redis.call('HEXISTS', claims, id) == 1 then
      redis.call('SADD', superseded, id)
    end
  end
  for _, id in ipairs(lists.purged) do
    if redis.call('XDEL', dead, id) == 0 and redis.call('HEXISTS', claims, id) == 1 then
      -- Not among the letters any more, but not settled either: its replay waits, and must be refused in its turn.
      redis.call('SADD', superseded, id)
    else
      lists.settled[#lists.settled + 1] = id
    end
  end
  for _, id in ipairs(lists.settled) do
    redis.call('HDEL', claims, id)
    redis.call('SREM', superseded, id)
  end
end

local function mark_applied(applied, last_id, removed)
  local mark = {'XADD', applied, 'MAXLEN', '=', 1, last_id, 'jobs', removed}
  local marked = redis.pcall(unpack(mark))
  if type(marked) == 'table' and marked.err then
    -- The mark is ahead of its stream only when somebody removed the stream by hand: begin the mark anew.
    redis.call('DEL', applied)
    redis.call(unpack(mark))
  end
end

local function count_off(jobs, bytes)
  redis.call('HINCRBY', KEYS[1], 'bytes', -bytes)
  if redis.call('HINCRBY', KEYS[1], 'jobs', -jobs) <= 0 then
    redis.call('DEL', KEYS[1])
  end
end

local function left_in(stream, lease)
  local left = redis.call('XLEN', stream)
  if left > 0 and ARGV[1] ~= '0' then
    redis.call('PEXPIRE', lease, ARGV[1])
  else
    redis.call('DEL', lease)
  end
  return left
end

local found = {}
for i = 2, #KEYS, 7 do
  local lease, stream, applied, dead = KEYS[i], KEYS[i + 1], KEYS[i + 2], KEYS[i + 3]
  local attempts, claims, superseded = KEYS[i + 4], KEYS[i + 5], KEYS[i + 6]
  local token, last_id, behind_id, size = unpack(take(4))
  local letters = take_list()
  local lists = {superseded = take_list(), purged = take_list(), settled = take_list()}
  if redis.call('GET', lease) == token then
    redis.call('HDEL', attempts, 'head', 'last', 'tries', 'token')
    bury(stream, dead, claims, letters)
    settle(dead, claims, superseded, lists)
    local removed = redis.call('XTRIM', stream, 'MINID', '=', behind_id)
    if removed > 0 then  -- else it was committed before, and the reply was lost
      mark_applied(applied, last_id, removed)
      count_off(removed, size)
    end
    found[#found + 1] = left_in(stream, lease)
  else
    -- Committed before all the same, if that gave the lease back.
    local mark = redis.call('XRANGE', applied, '-', '+', 'COUNT', 1)[1]
    found[#found + 1] = mark and mark[1] == last_id and redis.call('XLEN', stream) or -1
  end
end
return found
