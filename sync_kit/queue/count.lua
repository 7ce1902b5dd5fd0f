-- count: how many jobs are in each status
-- KEYS: ready delayed leases done failed
-- ARGV:
-- returns: ok, waiting, delayed, active, completed, failed

return {'ok', redis.call('LLEN', KEYS[1]), redis.call('ZCARD', KEYS[2]), redis.call('ZCARD', KEYS[3]),
        redis.call('ZCARD', KEYS[4]), redis.call('ZCARD', KEYS[5])}
