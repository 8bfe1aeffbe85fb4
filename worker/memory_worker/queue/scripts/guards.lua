#!lua flags=allow-oom
-- Read the replay guards of users.
--
-- KEYS  guarded users
-- ARGV  for each user a map in MessagePack: user_id, points, positions (of dead letters), all (whether to return all
--       dead letters)
-- Returns for each user nothing if the user has no dead letters, else: a list with the last position of each point, and
-- a list of dead letters, in which each position is followed by its dead letter.
-- use guarding
local CHUNK = 1000  -- Lua's unpack is limited to some thousand values

local function hmget(key, fields)
  local values = {}
  for first = 1, #fields, CHUNK do
    local last = math.min(first + CHUNK - 1, #fields)
    for _, value in ipairs(redis.call('HMGET', key, unpack(fields, first, last))) do
      values[#values + 1] = value
    end
  end
  return values
end

local function dead_letters_at(key, positions)
  local found = {}
  for _, position in ipairs(positions) do
    local dead_letter = redis.call('HGET', key, position)
    if dead_letter then
      found[#found + 1], found[#found + 2] = position, dead_letter
    end
  end
  return found
end

local found = {}
for i, packed in ipairs(ARGV) do
  local wanted = cmsgpack.unpack(packed)
  found[i] = false
  if redis.call('SISMEMBER', KEYS[1], wanted.user_id) == 1 then
    local key = dead_letters_of(KEYS[1], wanted.user_id)
    local dead_letters = wanted.all and redis.call('HGETALL', key) or dead_letters_at(key, wanted.positions)
    found[i] = {hmget(points_of(KEYS[1], wanted.user_id), wanted.points), dead_letters}
  end
end
return found
