-- Take the lease of a partition, and read its head.
-- Invariant: at most one token holds a lease. If the call is repeated with the same token because the reply was lost,
-- the lease is taken once. Entries stay in their streams.
--
-- `options` and `room` are described in reading. `keys` has the keys of the partition. `opening` has the life of the
-- lease (`ttl`, ms), and whether nothing is read from a partition that needs quarantine (`skip_quarantined`).
-- Returns false if another token holds the lease, else: whether the partition has dead letters, whether its next batch
-- needs quarantine, whether the drain before never ended (each 0 or 1), then what was read.
-- use reading
local function keys_of(lease, guarded, attempts, stream, home)
  return {lease = lease, guarded = guarded, attempts = attempts, stream = stream, home = home}
end

local function open_partition(options, opening, keys, token, max_entries, room)
  if not redis.call('SET', keys.lease, token, 'NX', 'PX', opening.ttl) and redis.call('GET', keys.lease) ~= token then
    return false
  end
  local attempt = load_attempt(keys.attempts)
  local quarantined = needs_quarantine(options, attempt)
  local found = {redis.call('EXISTS', keys.guarded), quarantined and 1 or 0, #attempt.processes > 0 and 1 or 0}
  if max_entries > 0 and not (quarantined and opening.skip_quarantined) then
    append_head(found, options, keys.stream, keys.home, keys.attempts, attempt, max_entries, room)
  end
  return found
end
