-- renew: let the leases of running jobs live for another lease time, each only for the run it was given to
-- KEYS: leases state
-- ARGV: lease_ms ; id generation ...
-- returns: ok, then for each job 1 (renewed), 0 (lost) or 2 (renewed, and to be cancelled)
-- uses: record

local leases, state = unpack(KEYS)
local answer = {'ok'}
for i = 2, #ARGV, 2 do
  local job = read(redis.call('HGET', state, ARGV[i]))
  local mine = job.worker ~= '-' and job.generation == tonumber(ARGV[i + 1])
  if mine then redis.call('ZADD', leases, 'XX', now + tonumber(ARGV[1]), ARGV[i]) end
  answer[#answer + 1] = mine and (job.cancels and 2 or 1) or 0
end
return answer
