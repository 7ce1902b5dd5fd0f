-- delete: forget jobs that have ended
-- KEYS: done failed body state error
-- ARGV: ; id ...
-- returns: ok, number of jobs

local done, failed, body, state, errors = unpack(KEYS)
local deleted = 0
for i = 1, #ARGV do
  if redis.call('ZREM', done, ARGV[i]) + redis.call('ZREM', failed, ARGV[i]) > 0 then
    redis.call('HDEL', body, ARGV[i])
    redis.call('HDEL', state, ARGV[i])
    redis.call('HDEL', errors, ARGV[i])
    deleted = deleted + 1
  end
end
return {'ok', deleted}
