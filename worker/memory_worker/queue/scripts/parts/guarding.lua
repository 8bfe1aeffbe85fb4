-- The dead letters of one user, as the replay guard knows them. `guarded` is the key of the users of a partition who
-- have any; the keys of each user begin with it.
local function dead_letters_of(guarded, user)
  return guarded .. ':' .. user
end

local function points_of(guarded, user)
  return dead_letters_of(guarded, user) .. ':touched'
end

-- Forget what is known of a user's points once no dead letter of the user is left.
local function forget_if_none(guarded, user)
  if redis.call('EXISTS', dead_letters_of(guarded, user)) == 0 then
    redis.call('DEL', points_of(guarded, user))
    redis.call('SREM', guarded, user)
  end
end

local function forget_dead_letter(guarded, user, position)
  redis.call('HDEL', dead_letters_of(guarded, user), position)
  forget_if_none(guarded, user)
end
