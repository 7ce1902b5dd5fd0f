-- take: spend `cost` units under every rule at once, or change nothing (`spend` 0: only look)
-- KEYS: counter
-- ARGV: cost spend; capacity width_ms buckets rate ...
-- returns: ok|limited, era (0: cannot be refunded), now_ms, then for each rule: remaining, retry_after_ms (0: fits, -1: never), reset_in_ms
--
-- The counter is a packed string: its era (4 bytes), then a part for each rule, in the order of the arguments.
-- A window (`rate` 0) counts the newest bucket of `width_ms` and `buckets` whole ones before it:
--   how many older ones are in use (1), number of the newest (6), units in all (4), units in the newest (4),
--   and for each older one in use, newest first: distance to the next newer one (1), units (4).
-- A token bucket (`rate` units leak in a window of `width_ms`): stamp in ms (6), debt (8, a double) in units
--   times `width_ms`, so that a whole millisecond leaks a whole number and nothing is ever rounded.
-- A new era begins when buckets change their numbers: what was spent before it cannot be found again.

local cost, spend = tonumber(ARGV[1]), ARGV[2] == '1' and ARGV[1] ~= '0'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stored = redis.call('GET', KEYS[1])

-- Most calls fit and meet the buckets of the call before: here they need no table for a rule and no new expiry.
if stored and spend and #stored > 18 then
  local reply, image, at, done = {'ok', struct.unpack('>I4', stored), now}, '', 5, 1
  for i = 3, #ARGV, 4 do
    local capacity, width, count = tonumber(ARGV[i]), tonumber(ARGV[i + 1]), #reply
    if ARGV[i + 3] ~= '0' or #stored < at + 14 then reply = nil break end
    local entries, head, used, newest = struct.unpack('>BI6I4I4', stored, at)
    used = used + cost
    if head ~= math.floor(now / width) or used > capacity then reply = nil break end
    image = image .. string.sub(stored, done, at + 6) .. struct.pack('>I4I4', used, newest + cost)
    done = at + 15
    at = done + 5 * entries
    reply[count + 1], reply[count + 2], reply[count + 3] = capacity - used, 0, (head + ARGV[i + 2] + 1) * width - now
  end
  if reply and at == #stored + 1 then
    redis.call('SET', KEYS[1], image .. string.sub(stored, done), 'KEEPTTL')
    return reply
  end
end

local at, moved, early, life, whole = 5, false, false, 0, not stored or #stored >= 18

local function older_of(rule)
  -- Offsets from the newest bucket and units of the older ones, newest first.
  local offsets, units, offset = {}, {}, 0
  for i = 1, #rule.older, 5 do
    local gap, count = struct.unpack('>BI4', rule.older, i)
    offset = offset + gap
    offsets[#offsets + 1], units[#units + 1] = offset, count
  end
  return offsets, units
end

local function age(rule, by)
  -- Move on to the bucket that runs, `by` after the newest, and forget those that count no more.
  if by > rule.buckets then
    rule.used, rule.newest, rule.older = 0, 0, ''
    return
  end
  rule.older, rule.newest = struct.pack('>BI4', by, rule.newest) .. rule.older, 0
  local offsets, units = older_of(rule)
  for i = #offsets, 1, -1 do
    if offsets[i] <= rule.buckets then break end
    rule.used, rule.older = rule.used - units[i], string.sub(rule.older, 1, 5 * i - 5)
  end
end

local function step_back(rule)
  -- The clock was set back. Less than a bucket may have passed since the newest two: they become the newest one.
  moved = true
  if rule.older == '' then return end
  local gap, count = struct.unpack('>BI4', rule.older)
  if gap == 1 then
    rule.newest, rule.older = rule.newest + count, string.sub(rule.older, 6)
  else
    rule.older = struct.pack('>B', gap - 1) .. string.sub(rule.older, 2)
  end
end

local window = {}

function window.read(rule)
  local current = math.floor(now / rule.width)
  life = math.max(life, (rule.buckets + 2) * rule.width)
  rule.head, rule.used, rule.newest, rule.older = current, 0, 0, ''
  if not stored then return end
  if #stored < at + 14 then whole = false return end
  local entries, head, used, newest = struct.unpack('>BI6I4I4', stored, at)
  if #stored < at + 14 + 5 * entries then whole = false return end
  rule.used, rule.newest, rule.older = used, newest, string.sub(stored, at + 15, at + 14 + 5 * entries)
  at = at + 15 + 5 * entries
  if current > head then
    age(rule, current - head)
  elseif current < head then
    -- A clock that is behind by less than a bucket is as good as one that is at the beginning of the newest.
    if head > current + 1 then step_back(rule) end
    rule.head, early = current + 1, true
  end
end

function window.fits(rule) return rule.used + cost <= rule.capacity end

function window.take(rule) rule.used, rule.newest = rule.used + cost, rule.newest + cost end

function window.pack(rule)
  return struct.pack('>BI6I4I4', #rule.older / 5, rule.head, rule.used, rule.newest) .. rule.older
end

function window.answer(rule, wanted)
  local function ends(offset) return (rule.head - offset + rule.buckets + 1) * rule.width - now end
  local offsets, units = older_of(rule)
  offsets[0], units[0] = 0, rule.newest
  local reset_in, retry_after, excess = 0, 0, rule.used + wanted - rule.capacity
  for i = #offsets, 0, -1 do
    if units[i] > 0 then reset_in = ends(offsets[i]) end
    if excess > 0 then
      excess = excess - units[i]
      retry_after = ends(offsets[i])
    end
  end
  return math.max(rule.capacity - rule.used, 0), retry_after, reset_in
end

local bucket = {}

function bucket.read(rule)
  life = math.max(life, math.ceil(1.1 * math.max(rule.width, rule.capacity * rule.width / rule.rate)))
  rule.room, rule.debt = rule.capacity * rule.width, 0
  if not stored then return end
  if #stored < at + 13 then whole = false return end
  local stamp, debt = struct.unpack('>I6d', stored, at)
  at = at + 14
  if stamp > now then moved = true end
  rule.debt = math.max(0, debt - math.max(0, now - stamp) * rule.rate)
end

function bucket.fits(rule) return rule.debt + cost * rule.width <= rule.room end

function bucket.take(rule) rule.debt = rule.debt + cost * rule.width end

function bucket.pack(rule) return struct.pack('>I6d', now, rule.debt) end

function bucket.answer(rule, wanted)
  local wait = math.ceil((rule.debt + wanted * rule.width - rule.room) / rule.rate)
  return math.max(math.floor((rule.room - rule.debt) / rule.width), 0), math.max(wait, 0), math.ceil(rule.debt / rule.rate)
end

local rules, allowed = {}, true
for i = 3, #ARGV, 4 do
  local rule = {capacity = tonumber(ARGV[i]), width = tonumber(ARGV[i + 1]), buckets = tonumber(ARGV[i + 2]), rate = tonumber(ARGV[i + 3])}
  rule.kind = rule.rate > 0 and bucket or window
  rule.kind.read(rule)
  allowed = allowed and rule.kind.fits(rule)
  rules[#rules + 1] = rule
end
if stored and not (whole and at == #stored + 1) then
  return redis.error_reply('WRONGTYPE the value is not a counter of this limiter')
end

local era = stored and not moved and struct.unpack('>I4', stored) or 1 + (time[1] * 1000000 + time[2]) % 4294967295
local image = struct.pack('>I4', era)
for i = 1, #rules do
  if allowed and spend then rules[i].kind.take(rules[i]) end
  image = image .. rules[i].kind.pack(rules[i])
end
-- What a clock that was set back has moved is written by refused calls too: else nothing would age until it is back.
if allowed and spend or moved then redis.call('SET', KEYS[1], image, 'PX', life) end

local reply, wanted = {allowed and 'ok' or 'limited', early and 0 or era, now}, allowed and 0 or cost
for i = 1, #rules do
  reply[3 * i + 1], reply[3 * i + 2], reply[3 * i + 3] = rules[i].kind.answer(rules[i], wanted)
  if wanted > rules[i].capacity then reply[3 * i + 2] = -1 end
end
return reply
