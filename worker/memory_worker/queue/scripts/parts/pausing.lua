-- Return whether the queue is paused. `paused` is the key of the pause. While it exists, no drain gets a partition and
-- no drain reads further entries. This is the only rule: claim, open and read ask here.
local function is_paused(paused)
  return redis.call('EXISTS', paused) == 1
end
