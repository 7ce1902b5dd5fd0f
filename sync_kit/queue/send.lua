-- send: accept jobs; an id that is known already is left as it is
-- KEYS: ready delayed body state wake
-- ARGV: delay_ms at_ms priority ; id body ...
-- returns: ok, number of new ones
-- uses: record

local ready, delayed, body, state, wake = unpack(KEYS)
local job = read(nil)
job.priority = tonumber(ARGV[3])
local due = tonumber(ARGV[2])
if due == 0 then due = now + tonumber(ARGV[1]) end

local new = 0
for i = 4, #ARGV, 2 do
  if redis.call('HSETNX', body, ARGV[i], ARGV[i + 1]) == 1 then
    new = new + 1
    if job.priority ~= 0 then add('HSET', state, ARGV[i], written(job)) end
    if due > now then
      add('ZADD', delayed, due, ARGV[i])
    else
      add('ZADD', ready, rank(job, now), ARGV[i])
    end
  end
end
flush()
if new > 0 and redis.call('LLEN', wake) == 0 then redis.call('RPUSH', wake, '1') end
return {'ok', new}
