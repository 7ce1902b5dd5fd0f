-- unpark: parked jobs of kinds that somebody knows are ready again; looks at 100 of them
-- KEYS: ready suspects parked body state kinds wake
-- ARGV: skip ; kind ...
-- returns: ok, number of those that are ready now, how many to skip the next time, 1 if there are more
-- uses: record

local ready, suspects, parked, body, state, kinds, wake = unpack(KEYS)
local known = {}
for i = 2, #ARGV do known[ARGV[i]] = true end
local skip = tonumber(ARGV[1])

local ids, moved = redis.call('ZRANGE', parked, skip, skip + MOST - 1), 0
for _, id in ipairs(ids) do
  local kind = string.match(redis.call('HGET', body, id) or '', '^[^\n]*')
  if known[kind] then
    local job = read(redis.call('HGET', state, id))
    redis.call('ZREM', parked, id)
    if redis.call('HINCRBY', kinds, kind, -1) <= 0 then redis.call('HDEL', kinds, kind) end
    redis.call('ZADD', job.crashes > 0 and suspects or ready, rank(job, 0), id)
    moved = moved + 1
  end
end
if moved > 0 and redis.call('LLEN', wake) == 0 then redis.call('RPUSH', wake, '1') end
return {'ok', moved, skip + #ids - moved, #ids == MOST and 1 or 0}
