-- put: make a schedule, or change it if it still is as it was seen; a paused one stays paused
-- KEYS: schedules payloads turns timetable
-- ARGV: name seen_revision revision plan payload slot_ms anchor_ms
-- returns: ok|changed
-- uses: turn
--
-- `seen_revision` is '-' for a schedule that was not there. A `slot_ms` of -1 lets the next slot and the anchor be.

local schedules, payloads, turns, timetable = unpack(KEYS)
local name, seen, revision, slot = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[6])
local turn = read(redis.call('HGET', turns, name))
if turn.revision == revision then return {'ok'} end
if turn.revision ~= seen then return {'changed'} end

turn.revision = revision
redis.call('HSET', schedules, name, ARGV[4])
redis.call('HSET', payloads, name, ARGV[5])
if slot >= 0 then
  turn.anchor = tonumber(ARGV[7])
  if not turn.paused then redis.call('ZADD', timetable, slot, name) end
end
redis.call('HSET', turns, name, written(turn))
return {'ok'}
