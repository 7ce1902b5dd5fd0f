-- release: end a lease, if its token still holds the resource, or leave the line; and call who is next and not dead
-- KEYS: line alive; lock ...
-- ARGV: token inbox
-- returns: ok | lost

local line, alive = unpack(KEYS)
local answer, free = 'lost', 0
for i = 3, #KEYS do
  local held = redis.pcall('GET', KEYS[i]) -- a key of another type is a lost lease
  if type(held) == 'string' and string.match(held, '^%d+ (%S+) ') == ARGV[1] then
    redis.call('UNLINK', KEYS[i])
    answer, held = 'ok', false
  end
  if not held then free = free + 1 end
end

if redis.call('LLEN', line) == 0 then return {answer} end
if answer == 'lost' then
  redis.call('LREM', line, 1, ARGV[1] .. ' ' .. ARGV[2])
  redis.call('ZREM', alive, ARGV[1])
end
if free == 0 then return {answer} end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _ = 1, 100 do
  local place = redis.call('LINDEX', line, 0)
  local token = place and string.match(place, '^%S+')
  if not token or tonumber(redis.call('ZSCORE', alive, token) or 0) > now then break end
  redis.call('LPOP', line)
  redis.call('ZREM', alive, token)
end

for _, place in ipairs(redis.call('LRANGE', line, 0, free - 1)) do
  local token, inbox = string.match(place, '^(%S+) (.+)$')
  redis.call('RPUSH', inbox, token)
  redis.call('PEXPIRE', inbox, 3000)
end
return {answer}
