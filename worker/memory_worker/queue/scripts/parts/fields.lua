-- Return the fields of a stream entry as a table. v (contract version), j (the job) and r (the position of a replayed
-- job) are empty strings if they are missing.
local function fields_of(entry)
  local fields = {v = '', j = '', r = ''}
  for i = 1, #entry[2], 2 do
    fields[entry[2][i]] = entry[2][i + 1]
  end
  return fields
end
