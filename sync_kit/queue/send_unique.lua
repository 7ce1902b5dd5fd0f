-- send_unique: accept jobs, each the only one of its key that has not ended; a known id is left as it is
-- KEYS: ready suspects delayed leases parked held body state error cancelled kinds unique waiters progress log wake
-- ARGV: delay_ms at_ms priority replace keep_count ; id key body ...
-- returns: ok, then for each job 1 (accepted), 0 (known) or the id of the one that has its key
-- uses: record
-- uses: unique
-- uses: ending
--
-- `replace`: the job that has the key is cancelled. If it runs, it may end: until then the new one is held. So is one
-- whose predecessor has been told to stop, and has not yet. Of those that are cancelled, `keep_count` are kept.

local ready, suspects, delayed, leases, parked, held, body, state, errors, cancelled, kinds, unique, waiters, progress,
  log, wake = unpack(KEYS)
local priority, due, replaces = ARGV[3], tonumber(ARGV[2]), ARGV[4] == '1'
local hint = false
if due == 0 then due = now + tonumber(ARGV[1]) end

local function place(id, key)
  if due > now then
    redis.call('ZADD', delayed, due, id)
  else
    redis.call('ZADD', ready, rank(read(redis.call('HGET', state, id)), now), id)
  end
  redis.call('HSET', unique, key, id)
  hint = true
end

local function trim(most)
  local excess = redis.call('ZCARD', cancelled) - tonumber(ARGV[5])
  if excess <= 0 then return end
  for _, id in ipairs(redis.call('ZRANGE', cancelled, 0, math.min(excess, most) - 1)) do
    redis.call('ZREM', cancelled, id)
    drop(id, {body, state, errors, progress, log})
  end
end

-- Ends a job that does not run, in favour of another one.
local function cancel(id, other)
  local job = read(redis.call('HGET', state, id))
  withdraw(id, {ready, suspects, delayed, held}, parked, kinds, body)
  job.finished = now
  redis.call('HSET', state, id, written(job))
  redis.call('HSET', errors, id, 'replaced by ' .. other)
  redis.call('ZADD', cancelled, now, id)
  call_waiters(id, waiters)
  trim(2)
end

local function replace(id, key, owner, following)
  if following ~= '' then cancel(following, id) end
  if redis.call('ZSCORE', leases, owner) then
    redis.call('HSET', unique, key, owner .. ' ' .. id)
    redis.call('ZADD', held, due, id)
  else
    cancel(owner, id)
    place(id, key)
  end
end

local function is_told_to_stop(id)
  return read(redis.call('HGET', state, id)).cancels
end

local function accept(id, key, record)
  local owner, following = owners(unique, key)
  if redis.call('HEXISTS', body, id) == 1 then return 0 end
  if owner ~= '' and redis.call('HEXISTS', body, owner) == 0 then owner = '' end -- somebody removed it by other means
  if owner ~= '' and not replaces then
    if following ~= '' then return following end
    if not is_told_to_stop(owner) then return owner end
  end
  redis.call('HSET', body, id, record)
  redis.call('HSET', state, id, '0 0 0 0 0 ' .. priority .. ' 0 - ' .. key)
  if owner == '' then place(id, key) else replace(id, key, owner, following) end
  return 1
end

local answer = {'ok'}
for i = 6, #ARGV, 3 do
  answer[#answer + 1] = accept(ARGV[i], ARGV[i + 1], ARGV[i + 2])
end
if hint and redis.call('LLEN', wake) == 0 then redis.call('RPUSH', wake, '1') end
return answer
