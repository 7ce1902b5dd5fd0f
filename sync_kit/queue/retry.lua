-- retry: let failed jobs run again as if they were new: those that are named, cancelled ones too, or the oldest that failed until then
-- KEYS: ready failed cancelled state unique wake
-- ARGV: until_ms skip; id ...
-- returns: ok, until_ms (now, if it was 0), number of jobs, next skip, 1 if there are more
-- uses: record
--
-- A job whose unique key another one has by now stays where it is. There are `skip` such ones among the oldest.

local ready, failed, cancelled, state, unique, wake = unpack(KEYS)
local last, skip, ids = tonumber(ARGV[1]), tonumber(ARGV[2]), {}
if last == 0 then last = now end
for i = 3, #ARGV do ids[i - 2] = ARGV[i] end
if #ids == 0 then ids = redis.call('ZRANGEBYSCORE', failed, '-inf', last, 'LIMIT', skip, MOST) end

local function take_key(id, job)
  return job.key == '' or redis.call('HSETNX', unique, job.key, id) == 1
end

local retried = 0
for _, id in ipairs(ids) do
  local job = read(redis.call('HGET', state, id))
  local ended = redis.call('ZSCORE', failed, id) or redis.call('ZSCORE', cancelled, id)
  if ended and take_key(id, job) then
    redis.call('ZREM', failed, id)
    redis.call('ZREM', cancelled, id)
    job.attempts, job.crashes, job.started, job.finished = 0, 0, 0, 0
    redis.call('HSET', state, id, written(job))
    redis.call('ZADD', ready, rank(job, now), id)
    retried = retried + 1
  end
end
if retried > 0 and redis.call('LLEN', wake) == 0 then redis.call('RPUSH', wake, '1') end
return {'ok', last, retried, skip + #ids - retried, #ids == MOST and 1 or 0}
