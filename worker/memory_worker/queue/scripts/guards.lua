#!lua flags=allow-oom
-- Read what the replay guard knows of users, as far as they have dead letters.
--
-- KEYS  guarded users
-- ARGV  for each user a map in MessagePack: user_id, fields (of the points), positions (of dead letters), all (whether
--       all dead letters are wanted)
-- Returns for each user nothing where there are no dead letters, else: the values of the fields, and the dead letters,
-- by turns position and letter.
-- use guarding
local AT_ONCE = 1000  -- Lua hands on no more than some thousand values

local function values_of(key, fields)
  local values = {}
  for first = 1, #fields, AT_ONCE do
    for _, value in ipairs(redis.call('HMGET', key, unpack(fields, first, math.min(first + AT_ONCE - 1, #fields)))) do
      values[#values + 1] = value
    end
  end
  return values
end

local found = {}
for i, packed in ipairs(ARGV) do
  local wanted = cmsgpack.unpack(packed)
  found[i] = false
  if redis.call('SISMEMBER', KEYS[1], wanted.user_id) == 1 then
    local key, dead_letters = dead_letters_of(KEYS[1], wanted.user_id), {}
    if wanted.all then
      dead_letters = redis.call('HGETALL', key)
    else
      for _, position in ipairs(wanted.positions) do
        local dead_letter = redis.call('HGET', key, position)
        if dead_letter then
          dead_letters[#dead_letters + 1], dead_letters[#dead_letters + 2] = position, dead_letter
        end
      end
    end
    found[i] = {values_of(points_of(KEYS[1], wanted.user_id), wanted.fields), dead_letters}
  end
end
return found
