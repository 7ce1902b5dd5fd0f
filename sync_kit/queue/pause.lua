-- pause: let no jobs be taken (1), or let them be taken again (0)
-- KEYS: paused ready wake
-- ARGV: pauses
-- returns: ok, 1 if that changed anything

if ARGV[1] == '1' then return {'ok', redis.call('SETNX', KEYS[1], '1')} end
local changed = redis.call('DEL', KEYS[1])
if changed == 1 and redis.call('LLEN', KEYS[2]) > 0 and redis.call('LLEN', KEYS[3]) == 0 then
  redis.call('RPUSH', KEYS[3], '1')
end
return {'ok', changed}
