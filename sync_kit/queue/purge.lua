-- purge: forget up to 100 jobs that wait or are delayed
-- KEYS: ready suspects delayed held body state error progress log unique waiters
-- ARGV:
-- returns: ok, number of jobs
-- uses: record
-- uses: unique
-- uses: ending

local ready, suspects, delayed, held, body, state, errors, progress, log, unique, waiters = unpack(KEYS)

local function forget(id)
  release(id, read(redis.call('HGET', state, id)), unique, state, ready, delayed, held)
  call_waiters(id, waiters)
  drop(id, {body, state, errors, progress, log})
end

local purged = 0
for _, place in ipairs({held, ready, suspects, delayed}) do
  local ids = redis.call('ZRANGE', place, 0, MOST - 1 - purged)
  for _, id in ipairs(ids) do
    redis.call('ZREM', place, id)
    forget(id)
  end
  purged = purged + #ids
  if purged == MOST then break end
end
return {'ok', purged}
