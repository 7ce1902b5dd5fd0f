-- retry: let failed jobs run again as if they were new, those that are named, or the oldest that failed until then
-- KEYS: ready failed state wake
-- ARGV: until_ms; id ...
-- returns: ok, until_ms (now, if it was 0), number of jobs, 1 if there are more

local ready, failed, state, wake = unpack(KEYS)
local MOST = 100
local last, ids = tonumber(ARGV[1]), {}
if last == 0 then
  local time = redis.call('TIME')
  last = time[1] * 1000 + math.floor(time[2] / 1000)
end
for i = 2, #ARGV do ids[i - 1] = ARGV[i] end
if #ids == 0 then ids = redis.call('ZRANGEBYSCORE', failed, '-inf', last, 'LIMIT', 0, MOST) end

local retried = 0
for _, id in ipairs(ids) do
  if redis.call('ZREM', failed, id) == 1 then
    local generation = string.match(redis.call('HGET', state, id) or '0', '^%d+')
    redis.call('HSET', state, id, generation .. ' 0 0 0 0')
    redis.call('RPUSH', ready, id)
    retried = retried + 1
  end
end
if retried > 0 and redis.call('LLEN', wake) == 0 then redis.call('RPUSH', wake, '1') end
return {'ok', last, retried, #ids == MOST and 1 or 0}
