-- Crash accounting: which processes have tried the head of a partition, and how many of them died with it.
--
-- `attempts` is the key of a hash:
--   head           the id of the first entry of the batch that is being tried
--   last           the id of the last entry of this batch
--   tried          the ids of the processes that have tried this head and whose drain has not ended
--   quarantine_to  the id of the last entry in quarantine; missing if there is no quarantine
--
-- A process is recorded before it gets an entry. Every end of a drain removes the record, except the death of its
-- process. So each recorded process that is not alive any more has died with this head.
-- After `options.deaths` of them, the batch is in quarantine: its entries are tried one by one, while nothing else runs
-- in the process. After `options.deaths_in_quarantine` of them with a single entry, this entry has crashed and must not
-- be tried again. The quarantine ends behind the last entry of the batch.
local MAX_RECORDED = 16

local function is_after(id, other)
  local ms, seq = string.match(id, '(%d+)-(%d+)')
  local other_ms, other_seq = string.match(other, '(%d+)-(%d+)')
  if ms ~= other_ms then
    return tonumber(ms) > tonumber(other_ms)
  end
  return tonumber(seq) > tonumber(other_seq)
end

-- Return the record: `head`, `last`, `quarantine_to` (false if missing), and `processes`, the list of those that tried it.
local function load_attempt(attempts)
  local stored, processes = redis.call('HMGET', attempts, 'head', 'last', 'quarantine_to', 'tried'), {}
  for process in string.gmatch(stored[4] or '', '%S+') do
    processes[#processes + 1] = process
  end
  return {head = stored[1], last = stored[2], quarantine_to = stored[3], processes = processes}
end

local function count_deaths(options, processes)
  local deaths = 0
  for _, process in ipairs(processes) do
    if process ~= options.process and redis.call('EXISTS', options.process_prefix .. process) == 0 then
      deaths = deaths + 1
    end
  end
  return deaths
end

-- Return whether the next batch may kill the process that tries it.
local function needs_quarantine(options, attempt)
  return attempt.quarantine_to or count_deaths(options, attempt.processes) >= options.deaths
end

-- Return whether a head must be tried alone, and whether it has crashed. `attempt` is the record so far.
local function judge_head(options, attempts, attempt, head)
  if attempt.head ~= head then
    attempt.processes = {}
  end
  local deaths, crashed = count_deaths(options, attempt.processes), false
  if not attempt.quarantine_to and deaths >= options.deaths then
    attempt.processes, attempt.quarantine_to = {}, attempt.last or head
    redis.call('HSET', attempts, 'quarantine_to', attempt.quarantine_to)
  elseif attempt.quarantine_to and is_after(head, attempt.quarantine_to) then
    attempt.quarantine_to = false
    redis.call('HDEL', attempts, 'quarantine_to')
  elseif attempt.quarantine_to then
    crashed = deaths >= options.deaths_in_quarantine
  end
  return attempt.quarantine_to, crashed
end

-- Record that this process tries the entries from `head` to `last`.
local function record_attempt(options, attempts, attempt, head, last)
  local processes = {options.process}
  for _, process in ipairs(attempt.processes) do
    if process ~= options.process and #processes < MAX_RECORDED then
      processes[#processes + 1] = process
    end
  end
  redis.call('SET', options.process_prefix .. options.process, 1, 'PX', options.process_ttl_ms)
  redis.call('HSET', attempts, 'head', head, 'last', last, 'tried', table.concat(processes, ' '))
end

-- Remove the record of the batch. The quarantine, if there is one, goes on.
local function remove_attempt(attempts)
  redis.call('HDEL', attempts, 'head', 'last', 'tried')
end

-- Remove the record at the end of a drain, if the process is recorded. If it has lost its lease, another drain may go
-- on with the record, so only this process is removed.
local function end_attempt(attempts, process, holds_lease)
  local others, was_recorded = {}, false
  for _, recorded in ipairs(load_attempt(attempts).processes) do
    if recorded == process then
      was_recorded = true
    else
      others[#others + 1] = recorded
    end
  end
  if was_recorded and (holds_lease or #others == 0) then
    remove_attempt(attempts)
  elseif was_recorded then
    redis.call('HSET', attempts, 'tried', table.concat(others, ' '))
  end
end
