-- delete: forget jobs that have ended
-- KEYS: done failed cancelled body state error results progress log expiries
-- ARGV: ; id ...
-- returns: ok, number of jobs
-- uses: ending

local done, failed, cancelled, body, state, errors, results, progress, log, expiries = unpack(KEYS)
local deleted = 0
for i = 1, #ARGV do
  local id = ARGV[i]
  if redis.call('ZREM', done, id) + redis.call('ZREM', failed, id) + redis.call('ZREM', cancelled, id) > 0 then
    drop(id, {body, state, errors, results, progress, log})
    redis.call('ZREM', expiries, id)
    deleted = deleted + 1
  end
end
return {'ok', deleted}
