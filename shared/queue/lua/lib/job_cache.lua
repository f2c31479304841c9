--- @include "clock"
-- Reads the fields of a job that a round needs, and keeps them in a table until the round ends. `finished_items`,
-- `answered_items`, `failed_items` and `latency_us` collect the changes of the round: see write_results.lua.
-- Defines for other files: jobs, load_job, routes_of, number_of
-- Used in each round: jobs, load_job, routes_of
local jobs = {}

local function load_job(id)
  if not jobs[id] then
    local total, owner, priority_class, accepted_ms, started_ms, finished_ms, deadline_ms, progress_until_ms,
      has_attempts, routes = unpack(redis.call('HMGET', JOB .. id, 'total', 'owner', 'priority_class', 'accepted_ms',
        'started_ms', 'finished_ms', 'deadline_ms', 'progress_until_ms', 'has_attempts', 'routes'))
    jobs[id] = {
      id = id, exists = total, is_unfinished = total and not finished_ms, total = tonumber(total), owner = owner,
      priority_class = priority_class, accepted_ms = accepted_ms, has_started = started_ms,
      deadline_ms = tonumber(deadline_ms), is_followed = progress_until_ms and tonumber(progress_until_ms) > now_ms,
      has_attempts = has_attempts, routes = routes, latency_us = 0,
      finished_items = {}, answered_items = {}, failed_items = {},
    }
  end
  return jobs[id]
end

-- Returns the list of the job's routes in a lane: see fair_queue.lua.
local function routes_of(job, lane)
  if type(job.routes) == 'string' then job.routes = cjson.decode(job.routes) end
  return job.routes and job.routes[lane] or {}
end

local function number_of(job, lane, route)
  for number, name in ipairs(routes_of(job, lane)) do
    if name == route then return number end
  end
end
