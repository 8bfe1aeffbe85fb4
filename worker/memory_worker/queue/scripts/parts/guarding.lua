-- What the replay guard stores about users with dead letters. `guarded` is the key of the set of these users. The keys
-- of each user begin with it. A user without dead letters has no keys.
local function dead_letters_of(guarded, user)
  return guarded .. ':' .. user
end

local function points_of(guarded, user)
  return dead_letters_of(guarded, user) .. ':touched'
end

local function remove_user_without_dead_letters(guarded, user)
  if redis.call('EXISTS', dead_letters_of(guarded, user)) == 0 then
    redis.call('DEL', points_of(guarded, user))
    redis.call('SREM', guarded, user)
  end
end

local function unguard(guarded, user, position)
  redis.call('HDEL', dead_letters_of(guarded, user), position)
  remove_user_without_dead_letters(guarded, user)
end
