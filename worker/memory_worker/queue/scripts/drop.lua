#!lua flags=allow-oom
-- Delete dead letters of a partition for good, and report this.
--
-- KEYS  dead letters, backlog, guarded users, outcomes, removed, since
-- ARGV  partition, most outcomes (0: none), then the ids of the dead letters
-- Returns how many were deleted.
-- use guarding
-- use removing
-- use fields
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local keys = {
  dead = KEYS[1], backlog = KEYS[2], outcomes = KEYS[4], removed = KEYS[5], since = KEYS[6],
}
local dropped = 0
for i = 3, #ARGV do
  local id = ARGV[i]
  local dead_letter = redis.call('XRANGE', keys.dead, id, id)[1]
  if dead_letter then
    local fields = fields_of(dead_letter)
    remove_dead_letter(keys, {partition = ARGV[1], id = id, fields = fields}, nil, ARGV[2], now)
    unguard(KEYS[3], fields.user_id or '', fields.r ~= '' and fields.r or id)
    dropped = dropped + 1
  end
end
return dropped
