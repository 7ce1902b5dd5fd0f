-- stay: waiters of one resource say that they are alive; dead ones before them lose their place, who may enter is called
-- KEYS: line alive; lock ...
-- ARGV: stay_ms; token ...
-- returns: ok, then 1 (in the line) or 0 (not any more) for each token

local line, alive = unpack(KEYS)
local stay, answer = ARGV[1], {'ok'}
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

for i = 2, #ARGV do
  local known = redis.call('ZSCORE', alive, ARGV[i])
  if known then redis.call('ZADD', alive, now + stay, ARGV[i]) end
  answer[i] = known and 1 or 0
end
redis.call('PEXPIRE', line, stay + 1000)
redis.call('PEXPIRE', alive, stay + 1000)

for _, place in ipairs(redis.call('LRANGE', line, 0, 99)) do
  local token = string.match(place, '^%S+')
  if tonumber(redis.call('ZSCORE', alive, token) or 0) > now then break end
  redis.call('LPOP', line)
  redis.call('ZREM', alive, token)
end

local free = #KEYS - 2 - redis.call('EXISTS', unpack(KEYS, 3))
if free == 0 then return answer end
for _, place in ipairs(redis.call('LRANGE', line, 0, free - 1)) do
  local token, inbox = string.match(place, '^(%S+) (.+)$')
  redis.call('RPUSH', inbox, token)
  redis.call('PEXPIRE', inbox, 3000)
end
return answer
