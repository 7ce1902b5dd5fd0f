-- exchange: hand in outcomes of finished runs, and take up to `want` jobs that are ready
-- KEYS: ready delayed leases body state error done failed wake last paused
-- ARGV: call want lease_ms max_crashes keep_ms keep_count keep_failed_ms keep_failed_count ; id generation outcome delay_ms text ...
-- returns: ok, next_due_ms (-1: nothing is known), refused ids, jobs as {id, body, generation, attempts, crashes}
--
-- A call that is repeated with the same `call` (its reply was lost) takes nothing again: it is told what it took.
-- The state of a job is a text: generation, attempts, crashes, started_ms, finished_ms.

local ready, delayed, leases, body, state, errors, done, failed, wake, last, paused = unpack(KEYS)
local call, want, lease, max_crashes = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local MOST = 100

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function read(id)
  local generation, attempts, crashes, started, finished = string.match(
    redis.call('HGET', state, id) or '0 0 0 0 0', '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
  return {generation = tonumber(generation), attempts = tonumber(attempts), crashes = tonumber(crashes),
          started = tonumber(started), finished = tonumber(finished)}
end

local function write(id, job)
  redis.call('HSET', state, id, string.format('%d %d %d %.0f %.0f',
    job.generation, job.attempts, job.crashes, job.started, job.finished))
end

local function delete(ids)
  if #ids > 0 then
    redis.call('HDEL', body, unpack(ids))
    redis.call('HDEL', state, unpack(ids))
    redis.call('HDEL', errors, unpack(ids))
  end
end

local function told(id)
  local job = read(id)
  return {id, redis.call('HGET', body, id), job.generation, job.attempts, job.crashes}
end

local function fail(id, job, text)
  job.finished = now
  redis.call('ZADD', failed, now, id)
  redis.call('HSET', errors, id, text)
end

local hint = false

local function later(id, delay)
  redis.call('ZADD', delayed, now + delay, id)
  hint = true
end

-- What each outcome does to a job whose lease was just taken away.
local outcomes = {
  done = function(id, job)
    job.finished = now
    redis.call('ZADD', done, now, id)
  end,
  retry = function(id, job, delay, text)
    redis.call('HSET', errors, id, text)
    if delay > 0 then later(id, delay) else redis.call('RPUSH', ready, id) end
  end,
  fail = function(id, job, delay, text) fail(id, job, text) end,
  back = function(id, job, delay)
    job.attempts = job.attempts - 1
    if delay > 0 then later(id, delay) else redis.call('LPUSH', ready, id) end
  end,
}

local function hand_in()
  local refused = {}
  for i = 9, #ARGV, 5 do
    local id, job = ARGV[i], read(ARGV[i])
    if job.generation == tonumber(ARGV[i + 1]) and redis.call('ZREM', leases, id) == 1 then
      outcomes[ARGV[i + 2]](id, job, tonumber(ARGV[i + 3]), ARGV[i + 4])
      write(id, job)
    else
      refused[#refused + 1] = id
    end
  end
  return refused
end

local function reclaim()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, MOST)) do
    local job = read(id)
    redis.call('ZREM', leases, id)
    job.attempts, job.crashes = job.attempts - 1, job.crashes + 1
    if job.crashes >= max_crashes then
      fail(id, job, 'worker died ' .. job.crashes .. ' times')
    else
      redis.call('LPUSH', ready, id)
    end
    write(id, job)
  end
end

local function promote()
  local ids = redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, MOST)
  if #ids > 0 then
    redis.call('RPUSH', ready, unpack(ids))
    redis.call('ZREM', delayed, unpack(ids))
  end
end

local function claim()
  local taken = {}
  local ids = want > 0 and redis.call('LPOP', ready, want) or {}
  for _, id in ipairs(ids) do
    if redis.call('HEXISTS', body, id) == 1 then
      local job = read(id)
      job.generation, job.attempts, job.started = job.generation + 1, job.attempts + 1, now
      redis.call('ZADD', leases, now + lease, id)
      write(id, job)
      taken[#taken + 1] = id
    end
  end
  return taken
end

local function trim(finished, keep, count)
  local ids = redis.call('ZRANGEBYSCORE', finished, '-inf', now - keep, 'LIMIT', 0, MOST)
  local excess = redis.call('ZCARD', finished) - count
  if #ids == 0 and excess > 0 then ids = redis.call('ZRANGE', finished, 0, math.min(excess, MOST) - 1) end
  if #ids > 0 then redis.call('ZREM', finished, unpack(ids)) end
  delete(ids)
end

local function next_due()
  local due = -1
  for _, key in ipairs({delayed, leases}) do
    local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if first[2] then
      local wait = math.max(0, first[2] - now)
      if due < 0 or wait < due then due = wait end
    end
  end
  return due
end

local function remember(taken)
  redis.call('SET', last, call .. ' ' .. table.concat(taken, ' '), 'PX', 10 * lease)
end

local function recall()
  local known, ids = string.match(redis.call('GET', last) or '', '^(%S+) (.*)$')
  if known ~= call then return nil end
  local taken = {}
  for id in string.gmatch(ids, '%S+') do taken[#taken + 1] = id end
  return taken
end

local refused, taken = {}, recall()
if not taken then
  refused = hand_in()
  reclaim()
  promote()
  local pausing = redis.call('EXISTS', paused) == 1
  taken = pausing and {} or claim()
  trim(done, tonumber(ARGV[5]), tonumber(ARGV[6]))
  trim(failed, tonumber(ARGV[7]), tonumber(ARGV[8]))
  if #taken > 0 or #ARGV > 8 then remember(taken) end
  hint = hint or (not pausing and redis.call('LLEN', ready) > 0)
  if hint and redis.call('LLEN', wake) == 0 then redis.call('RPUSH', wake, '1') end
end

local jobs = {}
for i, id in ipairs(taken) do jobs[i] = told(id) end
return {'ok', #taken < want and next_due() or 0, refused, jobs}
