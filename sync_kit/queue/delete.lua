-- delete: forget jobs that have ended
-- KEYS: done failed cancelled body state error
-- ARGV: ; id ...
-- returns: ok, number of jobs

local done, failed, cancelled, body, state, errors = unpack(KEYS)
local deleted = 0
for i = 1, #ARGV do
  local id = ARGV[i]
  if redis.call('ZREM', done, id) + redis.call('ZREM', failed, id) + redis.call('ZREM', cancelled, id) > 0 then
    redis.call('HDEL', body, id)
    redis.call('HDEL', state, id)
    redis.call('HDEL', errors, id)
    deleted = deleted + 1
  end
end
return {'ok', deleted}
