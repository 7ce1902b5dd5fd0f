-- release: end a lease, if its token still holds the resource
-- KEYS: lock
-- ARGV: token
-- returns: ok | lost

local held = redis.pcall('GET', KEYS[1]) -- a key of another type is a lost lease
if type(held) ~= 'string' or string.match(held, '^%d+ (%S+) ') ~= ARGV[1] then return {'lost'} end
redis.call('UNLINK', KEYS[1])
return {'ok'}
