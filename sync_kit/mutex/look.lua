-- look: who holds a resource, and how many wait for it
-- KEYS: line; lock ...
-- ARGV:
-- returns: ok, waiters, then fence, since_ms, expires_in_ms, owner for each holder

local answer = {'ok', redis.call('LLEN', KEYS[1])}
for i = 2, #KEYS do
  local held = redis.call('GET', KEYS[i])
  if held then
    local fence, since, owner = string.match(held, '^(%d+) %S+ (%d+) (.+)$')
    if not fence then return redis.error_reply('WRONGTYPE not a lock: ' .. KEYS[i]) end
    for _, value in ipairs({tonumber(fence), tonumber(since), redis.call('PTTL', KEYS[i]), owner}) do
      answer[#answer + 1] = value
    end
  end
end
return answer
