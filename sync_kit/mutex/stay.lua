-- stay: waiters of one resource say that they are alive; dead ones before them lose their place, who may enter is called
-- KEYS: line alive; lock ...
-- ARGV: ; token ...
-- returns: ok, then 1 (in the line) or 0 (not any more) for each token
-- uses: line

local line, alive = unpack(KEYS)
local answer, now, there = {'ok'}, clock(), redis.call('EXISTS', KEYS[1]) == 1
for i = 1, #ARGV do
  local known = there and redis.call('ZSCORE', alive, ARGV[i])
  if known then live(line, alive, ARGV[i], now) else redis.call('ZREM', alive, ARGV[i]) end
  answer[i + 1] = known and 1 or 0
end

local dead = redis.call('ZRANGEBYSCORE', alive, '-inf', now, 'LIMIT', 0, 1000) -- of other lines, which may be gone
if #dead > 0 then redis.call('ZREM', alive, unpack(dead)) end
bury(line, alive, now)
summon(line, #KEYS - 2 - redis.call('EXISTS', unpack(KEYS, 3)))
return answer
