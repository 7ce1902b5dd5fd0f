-- list: the ids of up to `limit` jobs of one status, those that ended last or are due first at the front
-- KEYS: ready delayed leases done failed
-- ARGV: status limit
-- returns: ok, then the ids

local last = tonumber(ARGV[2]) - 1
local lists = {
  waiting = function() return redis.call('LRANGE', KEYS[1], 0, last) end,
  delayed = function() return redis.call('ZRANGE', KEYS[2], 0, last) end,
  active = function() return redis.call('ZRANGE', KEYS[3], 0, last) end,
  completed = function() return redis.call('ZREVRANGE', KEYS[4], 0, last) end,
  failed = function() return redis.call('ZREVRANGE', KEYS[5], 0, last) end,
}
local answer = {'ok'}
for i, id in ipairs(lists[ARGV[1]]()) do answer[i + 1] = id end
return answer
