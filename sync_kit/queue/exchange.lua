-- exchange: hand in outcomes of finished runs, and take up to `want` jobs that are ready
-- KEYS: ready suspects delayed leases parked held body state error done failed cancelled wake paused kinds unique results expiries waiters progress log last control
-- ARGV: worker lease_ms crashes deliveries park_ms keep_ms count failed_ms failed_count call want lone deaf sweep skip adopts ; id generation outcome delay_ms text ...
-- returns: ok, next_due_ms (-1: nothing is known), refused ids, lost runs as {id, kind, outcome, attempts, text}, jobs as {id, body, generation, attempts, crashes}, next skip
-- uses: record
-- uses: unique
-- uses: ending
--
-- An outcome is `done` (text: its result, kept for delay_ms if that is not 0), `fail`, `retry`, `back` or `park`.
-- A `call` is a number that grows. One that is repeated (its reply was lost) takes nothing again: it is told what it took;
-- one that is older comes too late, and nothing is done. `deliveries`: attempts count among the crashes, too.
-- `lone`: one of the jobs may be a suspect, that is one whose worker died. `deaf`: the worker does not listen to
-- `wake`, so it is told by `control` when there was less than it wants. `sweep`: look after what is kept, too.
-- `adopts`: kinds, a line each, of which parked jobs are taken first; 100 are looked at, behind the first `skip`
-- (-1: none).

local ready, suspects, delayed, leases, parked, held, body, state, errors, done, failed, cancelled, wake, paused, kinds,
  unique, results, expiries, waiters, progress, log, last, control = unpack(KEYS)
local worker, lease, crashes, deliveries = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'
local keep = {
  [done] = {tonumber(ARGV[6]), tonumber(ARGV[7])},
  [failed] = {tonumber(ARGV[8]), tonumber(ARGV[9])},
}
local call, want, lone = tonumber(ARGV[10]), tonumber(ARGV[11]), ARGV[12] == '1'
local deaf, sweep, skip, adopts = ARGV[13] == '1', ARGV[14] == '1', tonumber(ARGV[15]), ARGV[16]

keep[cancelled] = keep[done]
local ended = {[done] = 0, [failed] = 0, [cancelled] = 0}
local hint, leased, first = false, nil, nil
local stored, remarks = 0, nil

local function kind_of(id)
  return string.match(redis.call('HGET', body, id) or '', '^[^\n]*')
end

-- Whether anybody waits for a job, or any job has said something of itself: seldom, so it is asked for all at once.
local function has_remarks()
  if remarks == nil then remarks = redis.call('EXISTS', waiters, progress, log) > 0 end
  return remarks
end

local function forget(id)
  add('HDEL', body, id)
  add('HDEL', state, id)
  add('HDEL', errors, id)
  if has_remarks() then
    add('HDEL', progress, id)
    add('HDEL', log, id)
  end
end

local function finish(place, id, job)
  job.finished, job.cancels = now, false
  ended[place] = ended[place] + 1
  if release(id, job, unique, state, ready, delayed, held) then hint = true end
  if has_remarks() then call_waiters(id, waiters) end
  if keep[place][2] > 0 then
    add('ZADD', place, now, id)
  else
    job.gone = true
    forget(id)
  end
end

local function fail(id, job, text)
  add('HSET', errors, id, text)
  finish(failed, id, job)
end

local function queue(id, job, since)
  add('ZADD', job.crashes > 0 and suspects or ready, rank(job, since), id)
end

local function later(id, delay)
  add('ZADD', delayed, now + delay, id)
  hint = true
end

-- What each outcome does to a job whose lease was just taken away.
local outcomes = {
  done = function(id, job, delay, text)
    if delay > 0 then
      add('HSET', results, id, text)
      add('ZADD', expiries, now + delay, id)
      stored = stored + 1
    end
    finish(done, id, job)
  end,
  cancel = function(id, job) finish(cancelled, id, job) end,
  fail = function(id, job, delay, text) fail(id, job, text) end,
  retry = function(id, job, delay, text)
    add('HSET', errors, id, text)
    if delay > 0 then later(id, delay) else queue(id, job, now) end
  end,
  back = function(id, job, delay)
    job.attempts = job.attempts - 1
    if delay > 0 then later(id, delay) else queue(id, job, 0) end
  end,
  park = function(id, job, delay, text)
    job.attempts = job.attempts - 1
    add('HSET', errors, id, text)
    add('ZADD', parked, now, id)
    redis.call('HINCRBY', kinds, kind_of(id), 1)
  end,
}

local function states(ids)
  return #ids > 0 and redis.call('HMGET', state, unpack(ids)) or {}
end

-- Whether another job waits for this one to end, as it has its unique key from now on: then it is not run again.
local function is_replaced(id, job, outcome)
  if job.key == '' or outcome == 'done' or outcome == 'fail' then return false end
  local _, following = owners(unique, job.key)
  if following ~= '' and keep[cancelled][2] > 0 then add('HSET', errors, id, 'replaced by ' .. following) end
  return following ~= ''
end

local function leave(id, job, outcome, delay, text)
  job.worker = '-'
  add('ZREM', leases, id)
  if is_replaced(id, job, outcome) or (job.cancels and outcome ~= 'done') then outcome = 'cancel' end
  outcomes[outcome](id, job, delay, text)
  if not job.gone then add('HSET', state, id, written(job)) end
  return outcome
end

local function hand_in()
  local refused, ids = {}, {}
  for i = 17, #ARGV, 5 do ids[#ids + 1] = ARGV[i] end
  local known = states(ids)
  for n, id in ipairs(ids) do
    local i, job = 17 + 5 * (n - 1), read(known[n])
    if job.worker ~= '-' and job.generation == tonumber(ARGV[i + 1]) then
      leave(id, job, ARGV[i + 2], tonumber(ARGV[i + 3]), ARGV[i + 4])
    else
      refused[#refused + 1] = id
    end
  end
  flush()
  return refused
end

-- When the first of a place is due; nil if there is none.
local function first_due(place)
  return tonumber(redis.call('ZRANGE', place, 0, 0, 'WITHSCORES')[2])
end

local function reclaim()
  local ids, lost = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, MOST), {}
  local known = states(ids)
  for n, id in ipairs(ids) do
    local job, outcome, text = read(known[n]), 'back', 'worker died'
    job.crashes = job.crashes + 1
    if job.crashes + (deliveries and job.attempts - 1 or 0) >= crashes then
      job.attempts, outcome, text = job.attempts - 1, 'fail', 'worker died ' .. job.crashes .. ' times'
    end
    outcome = leave(id, job, outcome, 0, text)
    lost[n] = {id, kind_of(id), outcome, job.attempts, text}
  end
  flush()
  return lost
end

local function promote()
  local due = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'WITHSCORES', 'LIMIT', 0, MOST)
  local ids = {}
  for i = 1, #due, 2 do ids[#ids + 1] = due[i] end
  local known = states(ids)
  for n, id in ipairs(ids) do
    queue(id, read(known[n]), tonumber(due[2 * n]))
    add('ZREM', delayed, id)
  end
  flush()
end

local function pop(place, most)
  local popped, ids = most > 0 and redis.call('ZPOPMIN', place, most) or {}, {}
  for i = 1, #popped, 2 do ids[#ids + 1] = popped[i] end
  return ids
end

-- Parked jobs of kinds that this worker knows. They go to it and to no other one, which might park them again.
local function adopt()
  local found, known = {}, {}
  if skip < 0 or want == 0 then return found end
  for kind in string.gmatch(adopts, '[^\n]+') do known[kind] = true end
  local ids = redis.call('ZRANGE', parked, skip, skip + MOST - 1)
  for _, id in ipairs(ids) do
    local kind = kind_of(id)
    if #found == want then break end
    if known[kind] then
      found[#found + 1] = id
      add('ZREM', parked, id)
      if redis.call('HINCRBY', kinds, kind, -1) <= 0 then redis.call('HDEL', kinds, kind) end
    else
      skip = skip + 1
    end
  end
  if #found < want and #ids < MOST then skip = -1 end
  flush()
  return found
end

local function claim()
  local ids = adopt()
  if lone and #ids < want then
    for _, id in ipairs(pop(suspects, 1)) do ids[#ids + 1] = id end
  end
  for _, id in ipairs(pop(ready, want - #ids)) do ids[#ids + 1] = id end
  local known, taken = states(ids), {}
  for n, id in ipairs(ids) do
    local job = read(known[n])
    job.generation, job.attempts, job.started, job.worker = job.generation + 1, job.attempts + 1, now, worker
    add('ZADD', leases, now + lease, id)
    add('HSET', state, id, written(job))
    taken[n] = {id, '', job.generation, job.attempts, job.crashes}
  end
  flush()
  return taken
end

-- Adds the bodies to what was taken. All at once: some scripts' worth of payloads fits a reply.
local function told(taken)
  local ids = {}
  for n, job in ipairs(taken) do ids[n] = job[1] end
  local bodies = #ids > 0 and redis.call('HMGET', body, unpack(ids)) or {}
  for n, job in ipairs(taken) do job[2] = bodies[n] or '' end
  return taken
end

local function trim(place, most)
  local oldest, count = now - keep[place][1], keep[place][2]
  local ids = redis.call('ZRANGEBYSCORE', place, '-inf', oldest, 'LIMIT', 0, most)
  local excess = redis.call('ZCARD', place) - count
  if #ids == 0 and excess > 0 then ids = redis.call('ZRANGE', place, 0, math.min(excess, most) - 1) end
  for _, id in ipairs(ids) do
    add('ZREM', place, id)
    forget(id)
  end
  flush()
end

local function expire(lost)
  local ids = redis.call('ZRANGEBYSCORE', parked, '-inf', now - tonumber(ARGV[5]), 'LIMIT', 0, MOST)
  local known = states(ids)
  for n, id in ipairs(ids) do
    local job, kind = read(known[n]), kind_of(id)
    local text = 'no worker knew task ' .. kind .. ' in the time that it was parked'
    if redis.call('HINCRBY', kinds, kind, -1) <= 0 then redis.call('HDEL', kinds, kind) end
    add('ZREM', parked, id)
    fail(id, job, text)
    if not job.gone then add('HSET', state, id, written(job)) end
    lost[#lost + 1] = {id, kind, 'expire', job.attempts, text}
  end
  flush()
end

local function drop_results(most)
  local ids = redis.call('ZRANGEBYSCORE', expiries, '-inf', now, 'LIMIT', 0, most)
  for _, id in ipairs(ids) do
    add('ZREM', expiries, id)
    add('HDEL', results, id)
  end
  flush()
end

local function maintain(lost)
  if sweep then expire(lost) end
  local most = 2 * stored + (sweep and 5 * MOST or 0)
  if most > 0 then drop_results(most) end
  for place, count in pairs(ended) do
    local most = 2 * count + (sweep and MOST or 0)
    if most > 0 then trim(place, most) end
  end
end

-- What became of this call, so that it can be told again to a worker whose reply was lost.
local function remember(refused, taken)
  local words = {call}
  for _, id in ipairs(refused) do words[#words + 1] = id .. ' -' end
  for _, job in ipairs(taken) do words[#words + 1] = job[1] .. ' ' .. job[3] end
  redis.call('SET', last, table.concat(words, ' '), 'PX', 10 * lease)
end

-- What was refused, and what was taken and is still this worker's; nil if this call has not been carried out.
local function recall()
  local known, words = string.match(redis.call('GET', last) or '0', '^(%d+)(.*)$')
  if tonumber(known) < call then return nil end
  local refused, taken = {}, {}
  if tonumber(known) > call then return refused, taken end
  for id, generation in string.gmatch(words, ' (%S+) (%S+)') do
    local job = read(redis.call('HGET', state, id))
    if generation == '-' then
      refused[#refused + 1] = id
    elseif job.worker == worker and job.generation == tonumber(generation) then
      redis.call('ZADD', leases, 'XX', now + lease, id)
      taken[#taken + 1] = {id, '', job.generation, job.attempts, job.crashes}
    end
  end
  return refused, taken
end

-- In how many milliseconds a lease ends or a delayed job is due.
local function next_due(taken)
  local due = math.min(leased or math.huge, first or math.huge, #taken > 0 and now + lease or math.huge)
  return due < math.huge and math.max(0, due - now) or -1
end

-- Whether others would find something: what is ready was taken to the last one if that is less than is wanted.
local function more_waits(taken)
  return (#taken == want and redis.call('ZCARD', ready) > 0) or (lone and redis.call('ZCARD', suspects) > 0)
end

local lost, refused, taken = {}, recall()
if not taken then
  refused = hand_in()
  leased, first = first_due(leases), first_due(delayed)
  if leased and leased <= now then lost, leased = reclaim(), first_due(leases) end
  if first and first <= now then
    promote()
    first = first_due(delayed)
  end
  local pausing = redis.call('EXISTS', paused) == 1
  taken = pausing and {} or claim()
  maintain(lost)
  if #taken > 0 or #ARGV > 16 then remember(refused, taken) end
  hint = not pausing and more_waits(taken) or hint
  if hint and redis.call('LLEN', wake) == 0 then redis.call('RPUSH', wake, '1') end
end
if deaf and #taken < want and redis.call('LLEN', control) == 0 then
  redis.call('RPUSH', control, 'look')
  redis.call('PEXPIRE', control, 10 * lease)
end
return {'ok', #taken < want and next_due(taken) or 0, refused, lost, told(taken), skip}
