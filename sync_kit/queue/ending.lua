-- What the scripts share that end jobs.

-- Takes a job that does not run out of where it waits; false if it waits nowhere.
local function withdraw(id, places, parked, kinds, body)
  for _, place in ipairs(places) do
    if redis.call('ZREM', place, id) == 1 then return true end
  end
  if redis.call('ZREM', parked, id) == 0 then return false end
  local kind = string.match(redis.call('HGET', body, id) or '', '^[^\n]*')
  if redis.call('HINCRBY', kinds, kind, -1) <= 0 then redis.call('HDEL', kinds, kind) end
  return true
end

-- Drops what is known of a job.
local function drop(id, hashes)
  for _, known in ipairs(hashes) do redis.call('HDEL', known, id) end
end

-- Tells those who wait for the end of a job that it has come, in the inboxes of their processes.
local function call_waiters(id, waiters)
  for inbox in string.gmatch(redis.call('HGET', waiters, id) or '', '%S+') do
    redis.call('RPUSH', inbox, id)
    redis.call('PEXPIRE', inbox, 30000)
  end
  redis.call('HDEL', waiters, id)
end
