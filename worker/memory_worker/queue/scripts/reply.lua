#!lua flags=allow-oom
-- Send replies, each to the list of its caller, and take their jobs off the queue.
-- Invariant: no list stays for ever because nobody takes from it.
--
-- KEYS  arq queue, then the lists
-- ARGV  life of a list (ms), then for each list: id of the job, the reply
for i = 2, #KEYS do
  -- What one caller has done to its own list is not to be felt by the others.
  if type(redis.pcall('RPUSH', KEYS[i], ARGV[2 * i - 1])) == 'number' then
    redis.call('PEXPIRE', KEYS[i], ARGV[1])
  end
  redis.call('ZREM', KEYS[1], ARGV[2 * i - 2])
end
return #KEYS - 1
