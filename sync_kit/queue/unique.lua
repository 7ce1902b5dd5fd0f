-- What the scripts share that know of unique keys. An entry of `unique` is the id of the job that has the key and, behind
-- a blank, perhaps that of the one that waits among those that are held until the first has ended.

local function owners(unique, key)
  return string.match(redis.call('HGET', unique, key) or '', '^(%S*) ?(%S*)$')
end

-- What was held until now becomes ready or delayed.
local function let_go(id, state, ready, delayed, held)
  local due = tonumber(redis.call('ZSCORE', held, id))
  redis.call('ZREM', held, id)
  if due > now then
    redis.call('ZADD', delayed, due, id)
  else
    redis.call('ZADD', ready, rank(read(redis.call('HGET', state, id)), now), id)
  end
end

-- A job has ended, and so has its hold on its key; true if that lets another one go.
local function release(id, job, unique, state, ready, delayed, held)
  if job.key == '' then return false end
  local owner, following = owners(unique, job.key)
  if id == following then redis.call('HSET', unique, job.key, owner) end
  if id ~= owner then return false end
  if following == '' then
    redis.call('HDEL', unique, job.key)
    return false
  end
  redis.call('HSET', unique, job.key, following)
  let_go(following, state, ready, delayed, held)
  return true
end
