-- workers: the records of up to 1000 workers that were heard of lately
-- KEYS: workers records
-- ARGV: gone_ms
-- returns: ok, then for each {worker, milliseconds since its beat, record}
-- uses: record

local workers, records = unpack(KEYS)
local answer = {'ok'}
local since = '(' .. string.format('%.0f', now - tonumber(ARGV[1]))
local found = redis.call('ZRANGEBYSCORE', workers, since, '+inf', 'WITHSCORES', 'LIMIT', 0, 1000)
for i = 1, #found, 2 do
  answer[#answer + 1] = {found[i], math.max(0, now - found[i + 1]), redis.call('HGET', records, found[i]) or ''}
end
return answer
