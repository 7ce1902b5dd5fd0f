-- extend: let leases live for another ttl, each only if its token still holds the resource
-- KEYS: ; lock ...
-- ARGV: ; token ttl_ms ...
-- returns: ok, then 1 (extended) or 0 (lost) for each lock

local answer = {'ok'}
for i, lock in ipairs(KEYS) do
  local held = redis.pcall('GET', lock) -- a key of another type is one lost lease, not the end of the batch
  local mine = type(held) == 'string' and string.match(held, '^%d+ (%S+) ') == ARGV[2 * i - 1]
  if mine then redis.call('PEXPIRE', lock, ARGV[2 * i]) end
  answer[i + 1] = mine and 1 or 0
end
return answer
