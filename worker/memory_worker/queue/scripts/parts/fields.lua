local MAX_TRACE = 568

-- Return the fields of a stream entry as a table. v (contract version), j (the job), r (the position of a replayed job)
-- and t (the trace context of the push) are empty strings if they are missing. So is a trace context that is too long.
local function fields_of(entry)
  local fields = {v = '', j = '', r = '', t = ''}
  for i = 1, #entry[2], 2 do
    fields[entry[2][i]] = entry[2][i + 1]
  end
  if #fields.t > MAX_TRACE then
    fields.t = ''
  end
  return fields
end
