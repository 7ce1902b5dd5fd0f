-- break: end leases of one resource whoever holds them, all (fence 0) or the one with that fence; and call who is next
-- KEYS: line alive; lock ...
-- ARGV: fence
-- returns: ok, then fence, owner for each broken lease
-- uses: line

local answer, held = {'ok'}, {}
for i = 3, #KEYS do
  held[i] = redis.call('GET', KEYS[i])
  if held[i] and not string.match(held[i], '^%d+ %S+ %d+ .') then
    return redis.error_reply('WRONGTYPE not a lock: ' .. KEYS[i])
  end
end

local free = 0
for i = 3, #KEYS do
  local fence, owner = string.match(held[i] or '', '^(%d+) %S+ %d+ (.+)$')
  local meant = fence and (ARGV[1] == '0' or ARGV[1] == fence)
  if meant then
    redis.call('UNLINK', KEYS[i])
    answer[#answer + 1], answer[#answer + 2] = tonumber(fence), owner
  end
  if meant or not fence then free = free + 1 end
end

bury(KEYS[1], KEYS[2], (clock()))
summon(KEYS[1], free)
return answer
