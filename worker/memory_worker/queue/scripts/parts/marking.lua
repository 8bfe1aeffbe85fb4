-- Mark that all entries up to this id have left the stream. `jobs` is how many have left it in this step.
local function mark_applied(applied, last_id, removed)
  local add_mark = {'XADD', applied, 'MAXLEN', '=', 1, last_id, 'jobs', removed}
  local added = redis.pcall(unpack(add_mark))
  if type(added) == 'table' and added.err then
    -- The mark has a later id than the stream if somebody removed the stream by hand. Start a new mark.
    redis.call('DEL', applied)
    redis.call(unpack(add_mark))
  end
end
