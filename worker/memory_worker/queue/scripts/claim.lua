#!lua flags=allow-oom
-- Claim drain jobs that are due, oldest first, as arq claims a job: by its mark that the job is in progress. They are
-- given in groups: partitions in which no more entries wait than make a batch, or one in which more do.
-- Invariant: a drain job is given to one worker at a time; what is no drain job of ours leaves the queue. While any are
-- left, somebody is woken for them.
--
-- KEYS  arq queue, wakeup list
-- ARGV  most groups, entries in a batch, how many drain jobs to look at, life of a mark (ms), what stands before a
--       doorbell's id in the name of its mark, how the ids of our drain jobs begin, how the names of streams do
-- Returns how many strangers were removed, then the partitions of each group.
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local groups_left, most, own = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[6]
local found, group, room, left = {0}, nil, -1, false
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(ARGV[3]))) do
  local partition = string.sub(id, 1, #own) == own and string.match(string.sub(id, #own + 1), '^%d+$')
  if not partition then
    redis.call('ZREM', KEYS[1], id)
    found[1] = found[1] + 1
  elseif redis.call('EXISTS', ARGV[5] .. id) == 0 then
    local waiting = redis.call('XLEN', ARGV[7] .. partition)
    local mine = waiting <= room and group
    if not mine then
      if groups_left == 0 then
        left = true
        break
      end
      groups_left, mine = groups_left - 1, {}
      found[#found + 1] = mine
    end
    if mine == group then
      room = room - waiting
    elseif most - waiting > room then
      group, room = mine, most - waiting
    end
    redis.call('SET', ARGV[5] .. id, 1, 'PX', ARGV[4])
    mine[#mine + 1] = tonumber(partition)
  end
end
if not left then
  redis.call('DEL', KEYS[2])
elseif redis.call('LLEN', KEYS[2]) == 0 then
  redis.call('RPUSH', KEYS[2], 1)
end
return found
