-- pause: let no jobs be taken (1), or let them be taken again (0)
-- KEYS: paused ready suspects wake
-- ARGV: pauses
-- returns: ok, 1 if that changed anything

local paused, ready, suspects, wake = unpack(KEYS)
if ARGV[1] == '1' then return {'ok', redis.call('SETNX', paused, '1')} end
local changed = redis.call('DEL', paused)
local waiting = redis.call('ZCARD', ready) + redis.call('ZCARD', suspects)
if changed == 1 and waiting > 0 and redis.call('LLEN', wake) == 0 then redis.call('RPUSH', wake, '1') end
return {'ok', changed}
