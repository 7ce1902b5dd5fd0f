-- acquire: become the holder of one resource, unless somebody else is
-- KEYS: lock fence
-- ARGV: token ttl_ms owner
-- returns: ok, fence | busy, expires_in_ms, owner

local held = redis.call('GET', KEYS[1])
if held then
  local fence, token, owner = string.match(held, '^(%d+) (%S+) (.+)$')
  if not fence then return redis.error_reply('WRONGTYPE the value is not a lock') end
  if token ~= ARGV[1] then return {'busy', redis.call('PTTL', KEYS[1]), owner} end
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return {'ok', tonumber(fence)}
end

local fence = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], fence .. ' ' .. ARGV[1] .. ' ' .. ARGV[3], 'PX', ARGV[2])
return {'ok', fence}
