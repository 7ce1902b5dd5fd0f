-- attend: a worker says that it is there; or, with an empty record, that it leaves, and passes a hint on that it may have swallowed
-- KEYS: workers records kinds ready wake paused
-- ARGV: worker record gone_ms
-- returns: ok, then up to 100 kinds of parked jobs
-- uses: record

local workers, records, kinds, ready, wake, paused = unpack(KEYS)
local worker, record = ARGV[1], ARGV[2]

local function leave(name)
  redis.call('ZREM', workers, name)
  redis.call('HDEL', records, name)
end

if record ~= '' then
  redis.call('ZADD', workers, now, worker)
  redis.call('HSET', records, worker, record)
else
  leave(worker)
  local waiting = redis.call('EXISTS', paused) == 0 and redis.call('ZCARD', ready) or 0
  if waiting > 0 and redis.call('LLEN', wake) == 0 then redis.call('RPUSH', wake, '1') end
end
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', workers, '-inf', now - tonumber(ARGV[3]), 'LIMIT', 0, MOST)) do
  leave(gone)
end
local answer = {'ok'}
for i, kind in ipairs(redis.call('HRANDFIELD', kinds, MOST)) do answer[i + 1] = kind end
return answer
