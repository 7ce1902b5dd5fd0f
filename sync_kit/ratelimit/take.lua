-- take: spend `cost` units of one counter if the limit allows it, else change nothing (`spend` 0: only look)
-- KEYS: counter
-- ARGV: limit bucket_ms buckets cost spend
-- returns: ok|limited, remaining, retry_after_ms (-1: never), reset_in_ms
--
-- The counter is a packed string: the number of the current bucket (8 bytes, a big endian double), the
-- units spent in all buckets together, then in the current bucket and in each older one (4 bytes each).
-- The current bucket and `buckets` whole ones before it count, so every span of a window is covered.

local limit, width, buckets, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local spend = ARGV[5] == '1' and cost > 0

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local current = math.floor(now / width)

local stored = redis.call('GET', KEYS[1])
local head, used, counts = nil, 0, nil

if not stored then
  counts = string.rep('\0\0\0\0', buckets + 1)
elseif #stored ~= 16 + 4 * buckets then
  return redis.error_reply('WRONGTYPE the value is not a counter of this limiter')
else
  head, used = struct.unpack('>dI4', stored)
  counts = string.sub(stored, 13)
  local age = math.min(current - head, buckets + 1)
  if age < 0 then
    -- The clock was set back. Less than a bucket may have passed since the newest two: they count as one, from now on.
    local newest, second = struct.unpack('>I4I4', counts)
    counts = struct.pack('>I4', newest + second) .. string.sub(counts, 9) .. '\0\0\0\0'
  elseif age > 0 then
    for i = buckets + 1, buckets + 2 - age, -1 do
      used = used - struct.unpack('>I4', counts, 4 * i - 3)
    end
    counts = string.rep('\0\0\0\0', age) .. string.sub(counts, 1, 4 * (buckets + 1 - age))
  end
end

local allowed = used + cost <= limit
if allowed and spend then
  used = used + cost
  local newest = struct.pack('>I4', struct.unpack('>I4', counts) + cost)
  if head == current then
    redis.call('SETRANGE', KEYS[1], 8, struct.pack('>I4', used) .. newest)
    return {'ok', limit - used, 0, (current + buckets + 1) * width - now}
  end
  counts = newest .. string.sub(counts, 5)
end
-- A head in the future is brought back by refused calls too: else it would hold the units until the clock gets there.
if (allowed and spend) or (head and head > current) then
  redis.call('SET', KEYS[1], struct.pack('>dI4', current, used) .. counts, 'PX', (buckets + 2) * width)
end

local function ends(i)
  -- Milliseconds until bucket `i` (1 is the current one) stops to count.
  return (current - i + 1 + buckets + 1) * width - now
end

local reset_in = 0
for i = 1, buckets + 1 do
  if struct.unpack('>I4', counts, 4 * i - 3) > 0 then
    reset_in = ends(i)
    break
  end
end
if allowed then return {'ok', limit - used, 0, reset_in} end

local retry_after, excess = -1, used + cost - limit
if cost <= limit then
  for i = buckets + 1, 1, -1 do
    excess = excess - struct.unpack('>I4', counts, 4 * i - 3)
    if excess <= 0 then
      retry_after = ends(i)
      break
    end
  end
end
return {'limited', math.max(limit - used, 0), retry_after, reset_in}
