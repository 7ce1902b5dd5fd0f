-- pause: take a schedule off the timetable (1); or put it back (0), if it still is as it was seen
-- KEYS: turns timetable
-- ARGV: name pauses seen_revision slot_ms
-- returns: ok, 1 if that changed anything | changed
-- uses: turn

local turns, timetable = unpack(KEYS)
local name, pauses = ARGV[1], ARGV[2] == '1'
local turn = read(redis.call('HGET', turns, name))
if turn.revision == '-' or turn.paused == pauses then return {'ok', 0} end
if not pauses and turn.revision ~= ARGV[3] then return {'changed'} end

turn.paused = pauses
redis.call('HSET', turns, name, written(turn))
if pauses then
  redis.call('ZREM', timetable, name)
else
  redis.call('ZADD', timetable, ARGV[4], name)
end
return {'ok', 1}
