-- What the scripts of schedules share: the time, and what is known of the turns of a schedule. That is a text: its
-- revision (which a change of the schedule replaces), anchor_ms, the last slot that fired (0: none), how often that
-- was, 1 if it is paused, and its last job or "-".

local MOST = 100
local FRONT = 10000000000000

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function read(text)
  local parts = '^(%S+) (%d+) (%d+) (%d+) (%d) (%S+)$'
  local revision, anchor, last, runs, paused, job = string.match(text or '', parts)
  if not revision then revision, anchor, last, runs, paused, job = string.match('- 0 0 0 0 -', parts) end
  return {revision = revision, anchor = tonumber(anchor), last = tonumber(last), runs = tonumber(runs),
          paused = paused == '1', job = job}
end

local function written(turn)
  return string.format('%s %.0f %.0f %.0f %d %s', turn.revision, turn.anchor, turn.last, turn.runs,
    turn.paused and 1 or 0, turn.job)
end

-- A score as a text that Python reads as a whole number; '' for none.
local function whole(score)
  return score and string.format('%.0f', score) or ''
end
