-- While somebody watches the queue, keep copies of the entries that leave a stream, for a while.
-- use fields
local WATCHED_MAX = 1024
local WATCHED_LIFE_MS = 60000

local function copy_for_watchers(watched, stream, last_id)
  for _, entry in ipairs(redis.call('XRANGE', stream, '-', last_id)) do
    local fields = fields_of(entry)
    redis.pcall('XADD', watched, 'MAXLEN', '=', WATCHED_MAX, entry[1], 'v', fields.v, 'j', fields.j)
  end
  redis.call('PEXPIRE', watched, WATCHED_LIFE_MS)
end
