-- list: some hundred schedules, without their payloads
-- KEYS: schedules turns
-- ARGV: cursor
-- returns: ok, the next cursor ('0' at the end), then for each {name, plan, turn}
-- uses: turn

local schedules, turns = unpack(KEYS)
local page = redis.call('HSCAN', schedules, ARGV[1], 'COUNT', MOST)
local answer, found = {'ok', page[1]}, page[2]
for i = 1, #found, 2 do
  answer[#answer + 1] = {found[i], found[i + 1], redis.call('HGET', turns, found[i]) or written(read())}
end
return answer
