-- fire: send the jobs of the slots of a schedule that are due, and move it to its next one, if it still is as it was seen
-- KEYS: schedules payloads turns timetable ready body state wake done failed cancelled
-- ARGV: name revision slot_ms next_ms last_ms overlaps priority; id head ...
-- returns: ok | busy: its last job is live | moved: the slot was fired by somebody else, or the schedule was changed
-- uses: turn
-- uses: live
--
-- `head` is what comes before the payload in the record of a job. Without a job the slots are passed over. A call that
-- is repeated because its reply was lost finds its own last job, and changes nothing.

local schedules, payloads, turns, timetable, ready, body, state, wake, done, failed, cancelled = unpack(KEYS)
local name, slot, priority = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[7])
local turn = read(redis.call('HGET', turns, name))
local last = #ARGV > 7 and ARGV[#ARGV - 1] or nil
if last and turn.job == last then return {'ok'} end
if turn.revision ~= ARGV[2] or tonumber(redis.call('ZSCORE', timetable, name) or -1) ~= slot then return {'moved'} end
if last and ARGV[6] == '0' and live(turn.job, body, {done, failed, cancelled}) then return {'busy'} end

local payload = redis.call('HGET', payloads, name)
if redis.call('HEXISTS', schedules, name) == 0 or not payload then return {'moved'} end
for i = 8, #ARGV, 2 do
  redis.call('HSET', body, ARGV[i], ARGV[i + 1] .. payload)
  if priority ~= 0 then redis.call('HSET', state, ARGV[i], '0 0 0 0 0 ' .. ARGV[7] .. ' 0 -') end
  redis.call('ZADD', ready, now - priority * FRONT, ARGV[i])
  turn.job, turn.runs = ARGV[i], turn.runs + 1
end
if last then
  turn.last = tonumber(ARGV[5])
  if redis.call('LLEN', wake) == 0 then redis.call('RPUSH', wake, '1') end
end
redis.call('HSET', turns, name, written(turn))
redis.call('ZADD', timetable, ARGV[4], name)
return {'ok'}
