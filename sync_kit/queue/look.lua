-- look: what is known of some jobs; their status is where they are
-- KEYS: delayed leases done failed cancelled parked body state error results progress log
-- ARGV: ; id ...
-- returns: ok, then for each id {status, since_or_due_ms, body, state, error, result, progress, log}, or an empty array

local places = {{'delayed', KEYS[1]}, {'active', KEYS[2]}, {'completed', KEYS[3]}, {'failed', KEYS[4]},
                {'cancelled', KEYS[5]}, {'parked', KEYS[6]}}
local told = {KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]}
local answer = {'ok'}
for i, id in ipairs(ARGV) do
  local body, found = redis.call('HGET', KEYS[7], id), {}
  if body then
    local status, due = 'waiting', 0
    for _, place in ipairs(places) do
      local score = redis.call('ZSCORE', place[2], id)
      if score then status, due = place[1], tonumber(score) end
    end
    found = {status, due, body}
    for n, known in ipairs(told) do found[3 + n] = redis.call('HGET', known, id) or '' end
  end
  answer[i + 1] = found
end
return answer
