-- forget: give one key its whole limit back
-- KEYS: counter
-- ARGV:
-- returns: ok, 1 if there was anything to forget

return {'ok', redis.call('UNLINK', KEYS[1])}
