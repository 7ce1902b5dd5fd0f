-- probe: whether scripts run and may look at keys of this namespace; changes nothing
-- KEYS: key
-- ARGV:
-- returns: ok, exists, now_ms

local time = redis.call('TIME')
return {'ok', redis.call('EXISTS', KEYS[1]), time[1] * 1000 + math.floor(time[2] / 1000)}
