-- Whether a job has not ended: it is known, and in none of the places of those that have.
local function live(job, body, places)
  if job == '-' or redis.call('HEXISTS', body, job) == 0 then return false end
  for _, place in ipairs(places) do
    if redis.call('ZSCORE', place, job) then return false end
  end
  return true
end
