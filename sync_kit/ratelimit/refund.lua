-- refund: give units back where they were spent, once (the marker remembers it)
-- KEYS: counter marker
-- ARGV: era spent_at_ms cost; capacity width_ms buckets rate ...
-- returns: ok|done|void (done before; nothing of it is left to be given back)
--
-- The counter is described in take.lua; `rate` is the highest one since it was spent. What has left its window, or has leaked out of its token bucket, is free already.

local era, spent_at, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stored = redis.call('GET', KEYS[1])
if not stored or #stored < 18 or struct.unpack('>I4', stored) ~= era then return {'void'} end

local given = false

local function unspent(older, offset)
  -- `older` with `cost` less in the bucket that is `offset` before the newest, and what that frees.
  local at_offset = 0
  for i = 1, #older, 5 do
    local gap, count = struct.unpack('>BI4', older, i)
    at_offset = at_offset + gap
    if at_offset == offset and count >= cost then
      return string.sub(older, 1, i) .. struct.pack('>I4', count - cost) .. string.sub(older, i + 5), cost
    end
  end
  return older, 0
end

local function window(at, width, buckets)
  local entries, head, used, newest = struct.unpack('>BI6I4I4', stored, at)
  local older = string.sub(stored, at + 15, at + 14 + 5 * entries)
  local offset, freed = head - math.floor(spent_at / width), 0
  if offset > buckets then return string.sub(stored, at, at + 14) .. older end
  if offset == 0 and newest >= cost then
    newest, freed = newest - cost, cost
  else
    older, freed = unspent(older, offset)
  end
  given = given or freed > 0
  return struct.pack('>BI6I4I4', entries, head, used - freed, newest) .. older
end

local function bucket(at, width, rate)
  -- Nothing leaks here, since the rate may have changed: only what cannot have leaked yet is taken off.
  local stamp, debt = struct.unpack('>I6d', stored, at)
  local left = math.min(debt, cost * width - (now - spent_at) * rate)
  if now < stamp or left <= 0 then return string.sub(stored, at, at + 13) end
  given = true
  return struct.pack('>I6d', stamp, debt - left)
end

local image = string.sub(stored, 1, 4)
for i = 4, #ARGV, 4 do
  local width, rate, at = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 3]), #image + 1
  image = image .. (rate > 0 and bucket(at, width, rate) or window(at, width, tonumber(ARGV[i + 2])))
end
-- Once the counter would have expired nothing that is in it now can be given back: the marker may go then too.
local life = redis.call('PTTL', KEYS[1])
if not given or life < 1 then return {redis.call('EXISTS', KEYS[2]) == 1 and 'done' or 'void'} end
if not redis.call('SET', KEYS[2], '', 'NX', 'PX', life) then return {'done'} end
redis.call('SET', KEYS[1], image, 'KEEPTTL')
return {'ok'}
