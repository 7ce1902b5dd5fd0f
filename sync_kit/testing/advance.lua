-- advance: let up to 100 delayed jobs be due now, in the order in which they would have been
-- KEYS: delayed wake
-- ARGV:
-- returns: ok, number of jobs

local delayed, wake = unpack(KEYS)
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local ids = redis.call('ZRANGE', delayed, 0, 99)
for i, id in ipairs(ids) do redis.call('ZADD', delayed, now - #ids + i, id) end
if #ids > 0 and redis.call('LLEN', wake) == 0 then redis.call('RPUSH', wake, '1') end
return {'ok', #ids}
