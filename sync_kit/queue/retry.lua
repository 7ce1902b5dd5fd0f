-- retry: let failed jobs run again as if they were new: those that are named, cancelled ones too, or the oldest that failed until then
-- KEYS: ready failed cancelled state wake
-- ARGV: until_ms; id ...
-- returns: ok, until_ms (now, if it was 0), number of jobs, 1 if there are more
-- uses: record

local ready, failed, cancelled, state, wake = unpack(KEYS)
local last, ids = tonumber(ARGV[1]), {}
if last == 0 then last = now end
for i = 2, #ARGV do ids[i - 1] = ARGV[i] end
if #ids == 0 then ids = redis.call('ZRANGEBYSCORE', failed, '-inf', last, 'LIMIT', 0, MOST) end

local retried = 0
for _, id in ipairs(ids) do
  if redis.call('ZREM', failed, id) + redis.call('ZREM', cancelled, id) > 0 then
    local job = read(redis.call('HGET', state, id))
    job.attempts, job.crashes, job.started, job.finished = 0, 0, 0, 0
    redis.call('HSET', state, id, written(job))
    redis.call('ZADD', ready, rank(job, now), id)
    retried = retried + 1
  end
end
if retried > 0 and redis.call('LLEN', wake) == 0 then redis.call('RPUSH', wake, '1') end
return {'ok', last, retried, #ids == MOST and 1 or 0}
