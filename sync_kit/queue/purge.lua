-- purge: forget up to 100 jobs that wait or are delayed
-- KEYS: ready suspects delayed body state error
-- ARGV:
-- returns: ok, number of jobs
-- uses: record

local body, state, errors = KEYS[4], KEYS[5], KEYS[6]
local purged = 0
for _, place in ipairs({KEYS[1], KEYS[2], KEYS[3]}) do
  local ids = redis.call('ZRANGE', place, 0, MOST - 1 - purged)
  for _, id in ipairs(ids) do
    add('ZREM', place, id)
    add('HDEL', body, id)
    add('HDEL', state, id)
    add('HDEL', errors, id)
  end
  purged = purged + #ids
  if purged == MOST then break end
end
flush()
return {'ok', purged}
