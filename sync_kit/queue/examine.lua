-- examine: what is unusual about a queue: whether it is paused, jobs whose worker died, parked jobs by kind
-- KEYS: paused suspects kinds
-- ARGV:
-- returns: ok, paused, suspects, then for up to 100 kinds: kind, jobs

local answer = {'ok', redis.call('EXISTS', KEYS[1]), redis.call('ZCARD', KEYS[2])}
for _, found in ipairs(redis.call('HRANDFIELD', KEYS[3], 100, 'WITHVALUES')) do answer[#answer + 1] = found end
return answer
