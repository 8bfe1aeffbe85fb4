-- Remove a dead letter that an operator drops or replays. Report this, and remember what became of its receipt.
--
-- `removed` is the key of a sorted set, in which all scores are 0. Each member is the id of a dead letter, padded with
-- zeros, a space, and the id of its replay, which is missing if the dead letter was dropped.
-- Only those with the latest ids are kept. Receipts that are not later than a forgotten one become unknown, because
-- they would look as if their jobs had been applied.
-- use outcomes
-- use counting
local MAX_REMOVED = 1000

local function padded(id)
  local ms, seq = string.match(id, '(%d+)-(%d+)')
  return string.rep('0', 20 - #ms) .. ms .. '-' .. string.rep('0', 20 - #seq) .. seq
end

local function forget_oldest(removed, since, partition)
  local excess = redis.call('ZCARD', removed) - MAX_REMOVED
  if excess <= 0 then
    return
  end
  local last = redis.call('ZRANGE', removed, excess - 1, excess - 1)[1]
  redis.call('ZREMRANGEBYRANK', removed, 0, excess - 1)
  local known_from = tonumber(string.match(last, '%d+')) + 1
  if known_from > tonumber(redis.call('HGET', since, partition) or 0) then
    redis.call('HSET', since, partition, string.format('%d', known_from))
  end
end

-- `keys` has the keys dead, backlog, outcomes, removed and since, and `dead_letter` what is removed: partition, id, and
-- the fields of its entry. `replay` is the id of its replay, or nil if it is dropped.
local function remove_dead_letter(keys, dead_letter, replay, most_outcomes, now)
  local partition, id, fields = dead_letter.partition, dead_letter.id, dead_letter.fields
  redis.call('XDEL', keys.dead, id)
  add_dead(keys.backlog, -1, -#fields.j)
  redis.call('ZADD', keys.removed, 0, padded(id) .. ' ' .. (replay or ''))
  forget_oldest(keys.removed, keys.since, partition)
  report(keys.outcomes, most_outcomes, now, {
    'receipt', partition .. '/' .. id, 'position', fields.r ~= '' and fields.r or id, 'op', fields.op or '',
    'user_id', fields.user_id or '', 'kind', fields.kind or '', 'namespace', fields.namespace or '',
    'outcome', replay and 'replayed' or 'dropped', 'reason', fields.reason or '', 'detail', fields.detail or '',
    'ref', fields.ref or '', 'replay', replay and partition .. '/' .. replay or '',
  })
end
