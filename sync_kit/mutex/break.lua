-- break: end leases of one resource whoever holds them, all (fence 0) or the one with that fence; and call who is next
-- KEYS: line alive; lock ...
-- ARGV: fence
-- returns: ok, then fence, owner for each broken lease
-- uses: line

local answer, free = {'ok'}, 0
for i = 3, #KEYS do
  local held = redis.call('GET', KEYS[i])
  local fence, owner = string.match(held or '', '^(%d+) %S+ %d+ (.+)$')
  if held and not fence then return redis.error_reply('WRONGTYPE not a lock: ' .. KEYS[i]) end
  if held and (ARGV[1] == '0' or ARGV[1] == fence) then
    redis.call('UNLINK', KEYS[i])
    answer[#answer + 1], answer[#answer + 2], held = tonumber(fence), owner, false
  end
  if not held then free = free + 1 end
end

bury(KEYS[1], KEYS[2], (clock()))
summon(KEYS[1], free)
return answer
