-- due: up to 100 schedules whose slot has come, behind the first `skip` of them
-- KEYS: schedules payloads turns timetable body done failed cancelled
-- ARGV: skip
-- returns: ok, now_ms, number of schedules, next_ms ('': nothing is to come), then for each {name, plan, turn, slot_ms, 1 if its last job is live}
-- uses: turn
-- uses: live

local schedules, payloads, turns, timetable, body, done, failed, cancelled = unpack(KEYS)
local due = redis.call('ZRANGEBYSCORE', timetable, '-inf', now, 'WITHSCORES', 'LIMIT', ARGV[1], MOST)
local coming = redis.call('ZRANGEBYSCORE', timetable, '(' .. whole(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
local answer = {'ok', now, redis.call('HLEN', schedules), whole(coming[2])}
for i = 1, #due, 2 do
  local name = due[i]
  local turn = read(redis.call('HGET', turns, name))
  local plan = redis.call('HEXISTS', payloads, name) == 1 and redis.call('HGET', schedules, name) or ''
  answer[#answer + 1] = {name, plan, written(turn), whole(due[i + 1]),
                         live(turn.job, body, {done, failed, cancelled}) and 1 or 0}
end
return answer
