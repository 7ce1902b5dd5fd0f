-- count: how many jobs are in each status, and how long the one that waits longest has waited
-- KEYS: ready suspects delayed leases done failed cancelled parked state held
-- ARGV:
-- returns: ok, waiting, delayed, active, completed, failed, cancelled, parked, oldest_ms (-1: none waits)
-- uses: record

local ready, suspects, state = KEYS[1], KEYS[2], KEYS[9]

-- The time since when a job waits; the start of its last run for one that was put in front.
local function since(id, score)
  local at = score % FRONT
  return at > 0 and at or read(redis.call('HGET', state, id)).started
end

-- The oldest of each priority is the first after those that were put in front, which are looked at, too.
local function oldest()
  local found, from = now + 1, '-inf'
  for _ = 1, 2 * MOST + 1 do
    local first = redis.call('ZRANGEBYSCORE', ready, from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    if not first[1] then return found end
    local score = tonumber(first[2])
    local base = score - score % FRONT
    local later = redis.call('ZRANGEBYSCORE', ready, base + 1, '(' .. string.format('%.0f', base + FRONT), 'WITHSCORES', 'LIMIT', 0, 1)
    found = math.min(found, since(first[1], score), later[1] and since(later[1], tonumber(later[2])) or now)
    from = base + FRONT
  end
  return found
end

local waited = now - oldest()
local suspect = redis.call('ZRANGE', suspects, 0, 0, 'WITHSCORES')
if suspect[1] then waited = math.max(waited, now - since(suspect[1], tonumber(suspect[2]))) end
return {'ok', redis.call('ZCARD', ready) + redis.call('ZCARD', suspects) + redis.call('ZCARD', KEYS[10]), redis.call('ZCARD', KEYS[3]),
        redis.call('ZCARD', KEYS[4]), redis.call('ZCARD', KEYS[5]), redis.call('ZCARD', KEYS[6]),
        redis.call('ZCARD', KEYS[7]), redis.call('ZCARD', KEYS[8]), waited}
