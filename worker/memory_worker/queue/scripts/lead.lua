#!lua flags=allow-oom
-- Let one of many hold an office: whoever comes first, for as long as it comes again in time.
-- Invariant: at most one token holds it.
--
-- KEYS  office
-- ARGV  token, life of the office (ms)
-- Returns 1 for the holder, 0 for all others.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
