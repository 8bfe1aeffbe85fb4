#!lua flags=allow-oom
-- Delete dead letters of a partition for good.
--
-- KEYS  dead letters, backlog, guarded users
-- ARGV  their ids
-- Returns how many were deleted.
-- use guarding
-- use counting
-- use fields
local dropped = 0
for _, id in ipairs(ARGV) do
  local dead_letter = redis.call('XRANGE', KEYS[1], id, id)[1]
  if dead_letter then
    local fields = fields_of(dead_letter)
    redis.call('XDEL', KEYS[1], id)
    add_dead(KEYS[2], -1, -#fields.j)
    unguard(KEYS[3], fields.user_id or '', fields.r ~= '' and fields.r or id)
    dropped = dropped + 1
  end
end
return dropped
