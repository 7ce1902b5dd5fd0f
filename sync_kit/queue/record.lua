-- What scripts of the engine share: the time, the record of a job, and writes that are made together.
-- The state of a job is a text: generation, attempts, crashes, started_ms, finished_ms, priority, 1 if it is to be
-- cancelled, the worker that runs it or "-", and the unique key if it has one. A job without a state is new.

local MOST = 100
local FRONT = 10000000000000

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function read(text)
  local generation, attempts, crashes, started, finished, priority, cancels, worker, key = string.match(
    text or '0 0 0 0 0 0 0 -', '^(%d+) (%d+) (%d+) (%d+) (%d+) (-?%d+) (%d) (%S+) ?(%S*)')
  return {generation = tonumber(generation), attempts = tonumber(attempts), crashes = tonumber(crashes),
          started = tonumber(started), finished = tonumber(finished), priority = tonumber(priority),
          cancels = cancels == '1', worker = worker, key = key}
end

local function written(job)
  return string.format(job.key == '' and '%d %d %d %.0f %.0f %d %d %s' or '%d %d %d %.0f %.0f %d %d %s %s', job.generation,
    job.attempts, job.crashes, job.started, job.finished, job.priority, job.cancels and 1 or 0, job.worker, job.key)
end

-- The place of a job among those that are ready: by priority, then by the time since when it is; 0 is the front.
local function rank(job, since)
  return since - job.priority * FRONT
end

-- Writes to one key by one command are collected and made at once by `flush`.
local writes = {}

local function add(command, key, ...)
  local name = command .. key
  local call = writes[name]
  if not call then
    call = {command, key}
    writes[name] = call
    writes[#writes + 1] = call
  end
  for _, value in ipairs({...}) do call[#call + 1] = value end
end

local function flush()
  for _, call in ipairs(writes) do redis.call(unpack(call)) end
  writes = {}
end
