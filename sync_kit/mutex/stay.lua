-- stay: waiters of one resource say that they are alive; dead ones before them lose their place, who may enter is called
-- KEYS: line alive; lock ...
-- ARGV: stay_ms; token ...
-- returns: ok, then 1 (in the line) or 0 (not any more) for each token
-- uses: line

local line, alive = unpack(KEYS)
local stay, answer, now = ARGV[1], {'ok'}, clock()
for i = 2, #ARGV do
  local known = redis.call('ZSCORE', alive, ARGV[i])
  if known then redis.call('ZADD', alive, now + stay, ARGV[i]) end
  answer[i] = known and 1 or 0
end
redis.call('PEXPIRE', line, stay + 1000)
redis.call('PEXPIRE', alive, stay + 1000)

local dead = redis.call('ZRANGEBYSCORE', alive, '-inf', now, 'LIMIT', 0, 1000) -- of other lines, which may be gone
if #dead > 0 then redis.call('ZREM', alive, unpack(dead)) end
bury(line, alive, now)
summon(line, #KEYS - 2 - redis.call('EXISTS', unpack(KEYS, 3)))
return answer
