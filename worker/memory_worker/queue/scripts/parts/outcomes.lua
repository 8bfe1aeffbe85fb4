-- Report the outcome of a job in the stream `outcomes`. It keeps the last `most` entries or a few more; 0: no outcomes.
-- `fields` has all fields except the time: names and values in turn, always in the same order, which saves memory.
local function report(outcomes, most, now, fields)
  if tonumber(most) > 0 then
    redis.call('XADD', outcomes, 'MAXLEN', '~', most, '*', 'at', now, unpack(fields))
  end
end
