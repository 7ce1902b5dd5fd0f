-- release: end a lease, if its token still holds the resource, or leave the line; and call who is next
-- KEYS: line alive; lock ...
-- ARGV: token inbox
-- returns: ok | lost

local answer, free = 'lost', 0
for i = 3, #KEYS do
  local held = redis.pcall('GET', KEYS[i]) -- a key of another type is a lost lease
  if type(held) == 'string' and string.match(held, '^%d+ (%S+) ') == ARGV[1] then
    redis.call('UNLINK', KEYS[i])
    answer, held = 'ok', false
  end
  if not held then free = free + 1 end
end

if redis.call('LLEN', KEYS[1]) == 0 then return {answer} end
if answer == 'lost' then
  redis.call('LREM', KEYS[1], 1, ARGV[1] .. ' ' .. ARGV[2])
  redis.call('ZREM', KEYS[2], ARGV[1])
end
if free == 0 then return {answer} end
for _, place in ipairs(redis.call('LRANGE', KEYS[1], 0, free - 1)) do
  local token, inbox = string.match(place, '^(%S+) (.+)$')
  redis.call('RPUSH', inbox, token)
  redis.call('PEXPIRE', inbox, 3000)
end
return {answer}
