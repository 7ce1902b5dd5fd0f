-- list: a page of the ids in one place, behind the cursor
-- KEYS: place
-- ARGV: newest_first limit score id
-- returns: ok, then {id, score} for each
-- uses: record
--
-- A cursor is a score and an id that need not be there any more: a stand-in finds their rank, so jobs that come and
-- go move no other one to another page.

local place, limit, id = KEYS[1], tonumber(ARGV[2]), ARGV[4]
local rank, range = 'ZRANK', 'ZRANGE'
if ARGV[1] == '1' then rank, range = 'ZREVRANK', 'ZREVRANGE' end

local from = 0
if id ~= '' then
  local stand_in = id .. '\0'
  redis.call('ZADD', place, ARGV[3], stand_in)
  from = redis.call(rank, place, stand_in)
  redis.call('ZREM', place, stand_in)
end
local found, answer = redis.call(range, place, from, from + limit, 'WITHSCORES'), {'ok'}
for i = 1, #found, 2 do
  if found[i] ~= id and #answer <= limit then
    answer[#answer + 1] = {found[i], string.format('%.0f', found[i + 1])}
  end
end
return answer
