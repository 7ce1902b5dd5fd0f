-- acquire: become a holder of a resource; if that is not possible, wait in its line or leave it
-- KEYS: fence line alive; lock ...
-- ARGV: token ttl_ms stays owner inbox
-- returns: ok, fence, number of the lock | busy, expires_in_ms, owner (empty: others are waiting), waiters before
-- uses: line

local fence, line, alive = unpack(KEYS)
local token, ttl, stays, owner, inbox = unpack(ARGV)
local place = token .. ' ' .. inbox
local free, vacant, held = 0, nil, {}
for i = 4, #KEYS do
  held[i] = redis.call('GET', KEYS[i])
  if held[i] then
    local number, its = string.match(held[i], '^(%d+) (%S+) %d+ .')
    if not number then return redis.error_reply('WRONGTYPE not a lock: ' .. KEYS[i]) end
    if its == token then
      redis.call('PEXPIRE', KEYS[i], ttl)
      return {'ok', tonumber(number), i - 3}
    end
  else
    free, vacant = free + 1, vacant or i
  end
end

local now, time = clock()
local waiters = redis.call('LLEN', line)
local before = waiters > 0 and redis.call('LPOS', line, place)
if waiters > 0 and not (before and before < free) then
  if before and stays == '1' then live(line, alive, token, now) end
  local dead = bury(line, alive, now)
  waiters, before = waiters - dead, before and before - dead
end

if before and (before < free or stays == '0') then
  redis.call('LREM', line, 1, place)
  redis.call('ZREM', alive, token)
end

if (before or waiters) < free then
  -- a server that has lost the counter goes on with its clock, which is ahead of what was given before
  local number = math.max(redis.call('INCR', fence), time[1] * 1000000 + time[2])
  redis.call('SET', fence, string.format('%.0f', number))
  redis.call('SET', KEYS[vacant], string.format('%.0f %s %.0f %s', number, token, now, owner), 'PX', ttl)
  return {'ok', number, vacant - 3}
end

if stays == '1' and not before then
  redis.call('RPUSH', line, place)
  live(line, alive, token, now)
end

local soonest, holder = 0, ''
for i = 4, #KEYS do
  local left = free == 0 and redis.call('PTTL', KEYS[i]) or 0
  if holder == '' or left < soonest then
    soonest, holder = left, held[i] and string.match(held[i], '^%d+ %S+ %d+ (.+)$') or ''
  end
end
return {'busy', soonest, holder, before or waiters}
