-- Remember what became of receipts whose dead letters an operator dropped or replayed, or whose jobs an operator discarded.
--
-- `removed` is the key of a sorted set, in which all scores are 0. Each member is the id of a dead letter, padded with
-- zeros, a space, and the id of its replay, which is missing if the dead letter was dropped. If the replay went to the
-- other stream of its user, it is the receipt of the replay instead of the id. A member for discarded entries is the
-- padded id of the last of them, a tilde, and that of the first. All entries between them were discarded.
-- Only those with the latest ids are kept. Receipts that are not later than a forgotten one become unknown, because
-- they would look as if their jobs had been applied.
-- use outcomes
-- use counting
local MAX_REMOVED = 1000

local function padded(id)
  local ms, seq = string.match(id, '(%d+)-(%d+)')
  return string.rep('0', 20 - #ms) .. ms .. '-' .. string.rep('0', 20 - #seq) .. seq
end

-- Let receipts of the partition be unknown up to this id.
local function forget_until(since, partition, padded_id)
  local known_from = tonumber(string.match(padded_id, '%d+')) + 1
  if known_from > tonumber(redis.call('HGET', since, partition) or 0) then
    redis.call('HSET', since, partition, string.format('%d', known_from))
  end
end

local function forget_oldest(removed, since, partition)
  local excess = redis.call('ZCARD', removed) - MAX_REMOVED
  if excess <= 0 then
    return
  end
  local last = redis.call('ZRANGE', removed, excess - 1, excess - 1)[1]
  redis.call('ZREMRANGEBYRANK', removed, 0, excess - 1)
  forget_until(since, partition, last)
end

-- Remember that the entries from the first to the last of a batch were discarded. If nothing has left the stream since
-- the batch before was discarded, both become one member. `mark` is the id of the last entry that has left the stream.
-- Clients of older releases do not know such members, so the receipts up to the last one become unknown to them.
local function remember_discarded(removed, since, batch, mark)
  local first, last = padded(batch.first), padded(batch.last)
  local latest = redis.call('ZREVRANGE', removed, 0, 0)[1]
  local before, first_before = string.match(latest or '', '^(.-)~(.*)$')
  if before and mark and before == padded(mark) then
    redis.call('ZREM', removed, latest)
    first = first_before
  end
  redis.call('ZADD', removed, 0, last .. '~' .. first)
  forget_oldest(removed, since, batch.partition)
  forget_until(since, batch.partition, last)
end

-- `keys` has the keys dead, backlog, outcomes, removed and since, and `dead_letter` what is removed: partition, id, and
-- the fields of its entry. `replay` is the receipt of its replay, or nil if it is dropped.
local function remove_dead_letter(keys, dead_letter, replay, most_outcomes, now)
  local partition, id, fields = dead_letter.partition, dead_letter.id, dead_letter.fields
  redis.call('XDEL', keys.dead, id)
  add_dead(keys.backlog, -1, -#fields.j)
  local replay_id = string.match(replay or '', '^' .. partition .. '/(.*)$') or replay or ''
  redis.call('ZADD', keys.removed, 0, padded(id) .. ' ' .. replay_id)
  forget_oldest(keys.removed, keys.since, partition)
  report(keys.outcomes, most_outcomes, now, {
    'receipt', partition .. '/' .. id, 'position', fields.r ~= '' and fields.r or id, 'op', fields.op or '',
    'user_id', fields.user_id or '', 'kind', fields.kind or '', 'namespace', fields.namespace or '',
    'outcome', replay and 'replayed' or 'dropped', 'reason', fields.reason or '', 'detail', fields.detail or '',
    'ref', fields.ref or '', 'replay', replay or '',
  })
end
