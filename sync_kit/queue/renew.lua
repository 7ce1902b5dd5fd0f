-- renew: let the leases of running jobs live for another lease time, each only for the run it was given to
-- KEYS: leases state
-- ARGV: lease_ms ; id generation ...
-- returns: ok, then 1 (renewed) or 0 (lost) for each job

local time = redis.call('TIME')
local due = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
local answer = {'ok'}
for i = 2, #ARGV, 2 do
  local generation = string.match(redis.call('HGET', KEYS[2], ARGV[i]) or '', '^(%d+) ')
  local mine = generation == ARGV[i + 1] and redis.call('ZSCORE', KEYS[1], ARGV[i])
  if mine then redis.call('ZADD', KEYS[1], 'XX', due, ARGV[i]) end
  answer[#answer + 1] = mine and 1 or 0
end
return answer
