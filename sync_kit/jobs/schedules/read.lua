-- read: what is known of some schedules
-- KEYS: schedules payloads turns timetable
-- ARGV: ; name ...
-- returns: ok, now_ms, then for each {plan, payload, turn, next_ms or ''}, or an empty array
-- uses: turn

local schedules, payloads, turns, timetable = unpack(KEYS)
local answer = {'ok', now}
for i = 1, #ARGV do
  local name, found = ARGV[i], {}
  local plan = redis.call('HGET', schedules, name)
  if plan then
    found = {plan, redis.call('HGET', payloads, name) or '', redis.call('HGET', turns, name) or written(read()),
             whole(redis.call('ZSCORE', timetable, name))}
  end
  answer[#answer + 1] = found
end
return answer
