#!lua flags=allow-oom
-- Read what is known of the jobs of some receipts.
-- Invariant: at most one dead letter is in memory at a time, and nothing is changed.
--
-- KEYS  mw:since, then for each partition: mw:applied:P, mw:dead:P, mw:removed:P
-- ARGV  number of partitions in KEYS, then each of these partitions,
--       then for each receipt: the place of its partition in KEYS (1, 2, ...), its id, the same id with both numbers
--       padded with zeros to 20 digits
-- Returns the time from which the queue is known, a list of two items for each partition (the id of the last entry that
-- left its stream, the time from which its receipts are known) and for each receipt a list: 'dead', reason, detail and
-- ref if it has a dead letter; 'removed' and the id of the replay if its dead letter was dropped (no id) or replayed (its
-- receipt if the replay is in another partition); 'dead', the reason 'discarded' and a detail if its entry was discarded;
-- otherwise nothing.
local partitions_given = tonumber(ARGV[1])

local function dead_letter(dead, id)
  local entry = redis.call('XRANGE', dead, id, id)[1]
  if entry then
    local fields = {}
    for i = 1, #entry[2], 2 do
      fields[entry[2][i]] = entry[2][i + 1]
    end
    return {'dead', fields.reason or '', fields.detail or '', fields.ref or ''}
  end
end

local function removed_dead_letter(removed, padded_id)
  local found = redis.call('ZRANGEBYLEX', removed, '[' .. padded_id .. ' ', '(' .. padded_id .. '!')[1]
  return found and {'removed', string.sub(found, #padded_id + 2)}
end

-- Entries are discarded together. The record of some is the padded id of the last, a tilde, and that of the first.
local function discarded(removed, padded_id)
  local found = redis.call('ZRANGEBYLEX', removed, '[' .. padded_id, '+', 'LIMIT', 0, 1)[1]
  local first = string.match(found or '', '~(.*)$')
  if first and first <= padded_id then
    return {'dead', 'discarded', 'an operator discarded the job before it was applied', ''}
  end
end

local partitions, receipts = {}, {}
for n = 1, partitions_given do
  local mark = redis.call('XRANGE', KEYS[3 * n - 1], '-', '+', 'COUNT', 1)[1]
  partitions[n] = {mark and mark[1] or '', redis.call('HGET', KEYS[1], ARGV[1 + n]) or ''}
end
for i = partitions_given + 2, #ARGV, 3 do
  local n = 3 * tonumber(ARGV[i])
  receipts[#receipts + 1] = dead_letter(KEYS[n], ARGV[i + 1]) or removed_dead_letter(KEYS[n + 1], ARGV[i + 2])
    or discarded(KEYS[n + 1], ARGV[i + 2]) or {}
end
return {redis.call('HGET', KEYS[1], 'epoch') or '', partitions, receipts}
