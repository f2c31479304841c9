--- @include "clock"
-- Reads of a job what a round needs, once; `finished_items` and the like collect what the round does to it.
local jobs = {}

local function load_job(id)
  if not jobs[id] then
    local total, owner, class, accepted_ms, started_ms, finished_ms, deadline_ms, progress_until_ms, has_attempts =
      unpack(redis.call('HMGET', JOB .. id, 'total', 'owner', 'priority_class', 'accepted_ms', 'started_ms',
        'finished_ms', 'deadline_ms', 'progress_until_ms', 'has_attempts'))
    jobs[id] = {
      id = id, exists = total, unfinished = total and not finished_ms, total = tonumber(total), owner = owner,
      class = class, accepted_ms = accepted_ms, started = started_ms, deadline_ms = tonumber(deadline_ms),
      followed = progress_until_ms and tonumber(progress_until_ms) > now, has_attempts = has_attempts,
      finished_items = {}, answered_items = {}, failed_items = {}, latency_us = 0,
    }
  end
  return jobs[id]
end
