-- send: accept jobs; an id that is known already is left as it is
-- KEYS: ready delayed body wake
-- ARGV: delay_ms at_ms ; id body ...
-- returns: ok, number of new ones

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = tonumber(ARGV[2])
if due == 0 then due = now + tonumber(ARGV[1]) end

local new = 0
for i = 3, #ARGV, 2 do
  if redis.call('HSETNX', KEYS[3], ARGV[i], ARGV[i + 1]) == 1 then
    new = new + 1
    if due > now then
      redis.call('ZADD', KEYS[2], due, ARGV[i])
    else
      redis.call('RPUSH', KEYS[1], ARGV[i])
    end
  end
end
if new > 0 and redis.call('LLEN', KEYS[4]) == 0 then redis.call('RPUSH', KEYS[4], '1') end
return {'ok', new}
