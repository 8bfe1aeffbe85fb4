#!lua flags=allow-oom
-- Send replies, each to the list of its caller, and take their jobs off the queue.
-- Invariant: no list stays for ever because nobody takes from it.
--
-- KEYS  arq queue, then the lists
-- ARGV  life of a list (ms), then for each list: id of the job, the reply
for i = 2, #KEYS do
  redis.call('RPUSH', KEYS[i], ARGV[2 * i - 1])
  redis.call('PEXPIRE', KEYS[i], ARGV[1])
  redis.call('ZREM', KEYS[1], ARGV[2 * i - 2])
end
return #KEYS - 1
