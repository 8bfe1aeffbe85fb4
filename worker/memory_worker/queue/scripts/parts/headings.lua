-- Return a dead letter with the size of its job instead of the job.
local function without_job(dead_letter)
  local fields = dead_letter[2]
  for i = 1, #fields, 2 do
    if fields[i] == 'j' then
      fields[i + 1] = #fields[i + 1]
    end
  end
  return dead_letter
end
