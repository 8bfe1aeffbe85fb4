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
