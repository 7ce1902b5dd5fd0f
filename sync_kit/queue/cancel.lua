-- cancel: end a job that has not ended; one that runs is marked, for its worker to stop it
-- KEYS: ready suspects delayed leases parked body state cancelled kinds
-- ARGV: id
-- returns: cancelled | active, worker, generation | ended
-- uses: record

local ready, suspects, delayed, leases, parked, body, state, cancelled, kinds = unpack(KEYS)
local id = ARGV[1]
local job = read(redis.call('HGET', state, id))

if redis.call('ZSCORE', leases, id) then
  job.cancels = true
  redis.call('HSET', state, id, written(job))
  return {'active', job.worker, job.generation}
end

local function waits()
  for _, place in ipairs({ready, suspects, delayed}) do
    if redis.call('ZREM', place, id) == 1 then return true end
  end
  if redis.call('ZREM', parked, id) == 0 then return false end
  local kind = string.match(redis.call('HGET', body, id) or '', '^[^\n]*')
  if redis.call('HINCRBY', kinds, kind, -1) <= 0 then redis.call('HDEL', kinds, kind) end
  return true
end

if not waits() then return {'ended'} end
job.finished = now
redis.call('HSET', state, id, written(job))
redis.call('ZADD', cancelled, now, id)
return {'cancelled'}
