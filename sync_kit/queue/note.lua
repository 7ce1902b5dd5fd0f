-- note: what a run says of itself, taken only from the newest run of its job
-- KEYS: state progress log
-- ARGV: id generation progress lines most_bytes
-- returns: ok | lost
-- uses: record
--
-- An empty `progress` leaves the last one. Of the log the last `most_bytes` are kept, in whole lines.

local state, progress, log = unpack(KEYS)
local id, said, lines, most = ARGV[1], ARGV[3], ARGV[4], tonumber(ARGV[5])
local job = read(redis.call('HGET', state, id))
if job.worker == '-' or job.generation ~= tonumber(ARGV[2]) then return {'lost'} end
if said ~= '' then redis.call('HSET', progress, id, said) end
if lines ~= '' then
  local all = (redis.call('HGET', log, id) or '') .. lines
  if #all > most then all = string.gsub(string.sub(all, -most), '^[^\n]*\n', '', 1) end
  redis.call('HSET', log, id, all)
end
return {'ok'}
