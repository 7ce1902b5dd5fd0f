-- delete: forget schedules; those with a revision only if they still have it. Jobs that they sent stay
-- KEYS: schedules payloads turns timetable
-- ARGV: ; name revision ...
-- returns: ok, number of schedules
-- uses: turn

local schedules, payloads, turns, timetable = unpack(KEYS)
local deleted = 0
for i = 1, #ARGV, 2 do
  local name, revision = ARGV[i], ARGV[i + 1]
  if revision == '' or read(redis.call('HGET', turns, name)).revision == revision then
    deleted = deleted + redis.call('HDEL', schedules, name)
    redis.call('HDEL', payloads, name)
    redis.call('HDEL', turns, name)
    redis.call('ZREM', timetable, name)
  end
end
return {'ok', deleted}
