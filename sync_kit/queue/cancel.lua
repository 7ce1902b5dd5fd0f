-- cancel: end a job that has not ended; one that runs is marked, for its worker to stop it
-- KEYS: ready suspects delayed leases parked held body state cancelled kinds unique waiters
-- ARGV: id
-- returns: cancelled | active, worker, generation | ended
-- uses: record
-- uses: unique
-- uses: ending

local ready, suspects, delayed, leases, parked, held, body, state, cancelled, kinds, unique, waiters = unpack(KEYS)
local id = ARGV[1]
local job = read(redis.call('HGET', state, id))

if redis.call('ZSCORE', leases, id) then
  job.cancels = true
  redis.call('HSET', state, id, written(job))
  return {'active', job.worker, job.generation}
end

if not withdraw(id, {ready, suspects, delayed, held}, parked, kinds, body) then return {'ended'} end
job.finished = now
redis.call('HSET', state, id, written(job))
redis.call('ZADD', cancelled, now, id)
release(id, job, unique, state, ready, delayed, held)
call_waiters(id, waiters)
return {'cancelled'}
