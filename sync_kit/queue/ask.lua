-- ask: how a job ended; if it has not, the inbox is told when it does
-- KEYS: done failed cancelled body error results waiters
-- ARGV: id inbox
-- returns: completed, result, error | failed, "", error | cancelled, "", error | waits | unknown
--
-- Of many inboxes the newest are called; the others belong to processes that are gone, or ask now and then.

local MOST_NAMED = 4000
local done, failed, cancelled, body, errors, results, waiters = unpack(KEYS)
local id, inbox = ARGV[1], ARGV[2]
local result = redis.call('HGET', results, id)

if result then return {'completed', result, ''} end
for word, place in pairs({completed = done, failed = failed, cancelled = cancelled}) do
  if redis.call('ZSCORE', place, id) then return {word, '', redis.call('HGET', errors, id) or ''} end
end
if redis.call('HEXISTS', body, id) == 0 then return {'unknown'} end
local known = redis.call('HGET', waiters, id) or ''
if not string.find(known, inbox, 1, true) then
  if #known > MOST_NAMED then known = string.gsub(string.sub(known, -MOST_NAMED), '^%S* ', '', 1) end
  redis.call('HSET', waiters, id, known .. inbox .. ' ')
end
return {'waits'}
