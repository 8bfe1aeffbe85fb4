#!lua flags=allow-oom
-- Return a page of dead letters. Each has the size of its job instead of the job.
-- Invariant: at most one job is in memory at a time, however large the jobs are.
--
-- KEYS  dead letters
-- ARGV  first id, last id (both as in XRANGE), most dead letters
-- use headings
local page = {}
local first = ARGV[1]
while #page < tonumber(ARGV[3]) do
  local found = redis.call('XRANGE', KEYS[1], first, ARGV[2], 'COUNT', 1)
  if #found == 0 then
    break
  end
  page[#page + 1] = without_job(found[1])
  first = '(' .. found[1][1]
end
return page
