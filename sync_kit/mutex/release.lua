-- release: end a lease, if its token still holds the resource
-- KEYS: lock
-- ARGV: token
-- returns: ok | lost

local held = redis.call('GET', KEYS[1])
if not held or string.match(held, '^%d+ (%S+) ') ~= ARGV[1] then return {'lost'} end
redis.call('UNLINK', KEYS[1])
return {'ok'}
