#!lua flags=allow-oom
-- Return the newest dead letters of several streams, newest first. Each has the size of its job instead of the job.
-- Invariant: at most one job is in memory at a time, however large the jobs are.
--
-- KEYS  for each stream: dead letters
-- ARGV  most dead letters of a stream, then for each stream: last id (as in XREVRANGE)
-- use headings
local pages = {}
for stream = 1, #KEYS do
  local page, last = {}, ARGV[stream + 1]
  while #page < tonumber(ARGV[1]) do
    local found = redis.call('XREVRANGE', KEYS[stream], last, '-', 'COUNT', 1)
    if #found == 0 then
      break
    end
    page[#page + 1] = without_job(found[1])
    last = '(' .. found[1][1]
  end
  pages[stream] = page
end
return pages
