-- signal: tell a worker something, if it listens
-- KEYS: control
-- ARGV: message keep_ms
-- returns: ok

redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], -1000, -1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'ok'}
