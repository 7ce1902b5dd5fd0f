-- release: end a lease, if its token still holds the resource, or leave the line; and call who is next and not dead
-- KEYS: line alive; lock ...
-- ARGV: token inbox
-- returns: ok | lost
-- uses: line

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
bury(line, alive, (clock()))
summon(line, free)
return {answer}
