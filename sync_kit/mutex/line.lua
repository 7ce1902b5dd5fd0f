-- The line of those who wait for a resource: a list of places, each a token and the inbox of its process.

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000), time
end

local ALIVE = 2000 -- ms since its last sign of life that a waiter is taken to be alive

-- A stamp that is further ahead was made before the clock was set back.
local function lives(alive, token, now)
  local till = tonumber(redis.call('ZSCORE', alive, token) or 0)
  return till > now and till <= now + ALIVE
end

-- A sign of life; a line without any for a while is gone.
local function live(line, alive, token, now)
  redis.call('ZADD', alive, now + ALIVE, token)
  redis.call('PEXPIRE', line, ALIVE + 1000)
  redis.call('PEXPIRE', alive, ALIVE + 1000)
end

-- Dead waiters at the head lose their places, at most a thousand in one call; returns how many.
local function bury(line, alive, now)
  for dead = 0, 999 do
    local place = redis.call('LINDEX', line, 0)
    local token = place and string.match(place, '^%S+')
    if not token or lives(alive, token, now) then return dead end
    redis.call('LPOP', line)
    redis.call('ZREM', alive, token)
  end
  return 1000
end

-- Send the tokens of the first waiters to their inboxes.
local function summon(line, count)
  if count == 0 then return end
  for _, place in ipairs(redis.call('LRANGE', line, 0, count - 1)) do
    local token, inbox = string.match(place, '^(%S+) (.+)$')
    redis.call('RPUSH', inbox, token)
    redis.call('PEXPIRE', inbox, 3000)
  end
end
