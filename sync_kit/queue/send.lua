-- send: accept jobs; an id that is known already is left as it is
-- KEYS: ready delayed body state wake
-- ARGV: delay_ms at_ms priority ; id body ...
-- returns: ok, number of new ones
--
-- What is ready is in the order of record.lua, and so is the state of a job that has a priority.

local ready, delayed, body, state, wake = unpack(KEYS)
local clock, priority, due = redis.call('TIME'), tonumber(ARGV[3]), tonumber(ARGV[2])
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if due == 0 then due = now + tonumber(ARGV[1]) end
local place, score = delayed, due
if due <= now then place, score = ready, now - priority * 10000000000000 end

local added = {}
for i = 4, #ARGV, 2 do
  if redis.call('HSETNX', body, ARGV[i], ARGV[i + 1]) == 1 then
    if priority ~= 0 then redis.call('HSET', state, ARGV[i], '0 0 0 0 0 ' .. ARGV[3] .. ' 0 -') end
    added[#added + 1] = score
    added[#added + 1] = ARGV[i]
  end
end
if #added > 0 then
  redis.call('ZADD', place, unpack(added))
  if redis.call('LLEN', wake) == 0 then redis.call('RPUSH', wake, '1') end
end
return {'ok', #added / 2}
