#!lua flags=no-writes
-- Reads the workers and the lanes in use, all at the same moment: the webhook lane, the lanes whose calls an alive worker can
-- make, the active lanes, and the lanes that had calls in the last hour.
-- ARGV: max_jobs (limit of jobs to search per lane for the oldest item), max_lost (limit of lost workers to return),
--       max_scopes (limit of scopes to return per lane)
-- Returns: {now_ms,
--          {worker, time in ms after which the worker counts as lost, …},
--          {worker, the worker's last report or false, …},
--          then per lane {name, number of leases, number of queued items, number of deferred items, time in ms at which the
--          oldest queued item was accepted or false, a list of up to max_scopes scopes that are not healthy: see health.lua,
--          the limits that were set while work runs and the state of the adaptive limit, as JSON or false}
--          and per scope {scope, time in ms at which the pause ends, time in ms at which the scope opened or the pause began,
--          1 if the scope is open or 0, verdict, reason, 1 if a probe is running or 0}; the first is the account's}
--- @include "clock"
local max_jobs, max_lost, max_scopes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local function has_queued(lane, job_id)
  local routes = redis.call('HGET', JOB .. job_id, 'routes')
  for _, route in ipairs(routes and cjson.decode(routes)[lane] or {}) do
    if redis.call('EXISTS', QUEUE .. lane .. ':' .. job_id .. ':' .. route) == 1 then return true end
  end
  return false
end

-- Returns the time at which the oldest queued item of a lane was accepted, or nil. Searches at most max_jobs jobs.
local function find_oldest(lane)
  local oldest_ms
  local searched = 0
  local function consider(accepted_ms)
    accepted_ms = tonumber(accepted_ms)
    if accepted_ms and not (oldest_ms and oldest_ms < accepted_ms) then oldest_ms = accepted_ms end
  end
  local function consider_job(job_id) -- returns whether the search may continue
    searched = searched + 1
    if searched > max_jobs then return false end
    if has_queued(lane, job_id) then consider(redis.call('HGET', JOB .. job_id, 'accepted_ms')) end
    return true
  end
  for _, owner in ipairs(redis.call('ZRANGE', FAIR_QUEUE .. lane, 0, max_jobs)) do
    for _, class in ipairs({ 'interactive', 'bulk' }) do
      for _, job_id in ipairs(redis.call('ZRANGE', FAIR_QUEUE .. lane .. ':' .. owner .. ':' .. class, 0, max_jobs)) do
        if not consider_job(job_id) then return oldest_ms end
      end
    end
  end
  for _, scope in ipairs(redis.call('ZRANGE', BLOCKED .. lane, 0, max_jobs)) do
    for _, queue in ipairs(redis.call('ZRANGE', WAITING .. lane .. ':' .. scope, 0, max_jobs)) do
      if not consider_job(string.match(queue, '^%S+')) then return oldest_ms end
    end
  end
  consider(redis.call('ZRANGE', QUARANTINE .. lane, 0, 0, 'WITHSCORES')[2])
  return oldest_ms
end

-- Returns the keys HEALTH of a provider's accounts that have one: see deployments.lua.
local function health_of(lane)
  local accounts, found = { HEALTH .. lane }, {}
  for number = 2, MAX_KEYS do accounts[number] = HEALTH .. lane .. '#' .. number end
  if redis.call('EXISTS', unpack(accounts)) == 0 then return {} end
  for number, key in ipairs(accounts) do
    if redis.call('EXISTS', key) == 1 then found[number] = key end
  end
  return found
end

-- Appends the scopes of an account that are paused or open.
local function add_scopes(scopes, lane, number, key)
  local stored = redis.call('HGETALL', key)
  for i = 1, #stored, 2 do
    local scope, record = stored[i], cmsgpack.unpack(stored[i + 1])
    local until_ms = math.min(record.until_ms, now_ms + record.pause_ms)
    if record.opened_ms or until_ms > now_ms then
      local is_probing = record.probe and redis.call('ZSCORE', LEASES .. lane, record.probe) and 1 or 0
      local since_ms = math.min(record.opened_ms or until_ms - record.pause_ms, now_ms)
      table.insert(scopes, scope == '' and 1 or #scopes + 1, { scope, ms(until_ms), ms(since_ms), record.opened_ms and 1 or 0,
        record.verdict, record.reason, is_probing, number })
      scopes[max_scopes + 1] = nil
    end
  end
end

-- Returns the scopes of a lane that are paused or open.
local function read_scopes(lane)
  local scopes = {}
  for number, key in pairs(health_of(lane)) do add_scopes(scopes, lane, number, key) end
  return scopes
end

local function read_lane(lane)
  local queued = redis.call('ZCARD', QUARANTINE .. lane)
  for _, count in ipairs(redis.call('HVALS', DEPTH .. lane)) do queued = queued + count end
  local oldest_ms = queued > 0 and find_oldest(lane)
  return { lane, redis.call('ZCARD', LEASES .. lane), queued, redis.call('ZCARD', DEFERRED .. lane),
    oldest_ms and ms(math.min(oldest_ms, now_ms)) or false, read_scopes(lane), redis.call('HGET', LIMITS, lane),
    redis.call('HGET', CAPS, lane) }
end

local reports, lost = {}, 0
local lanes = { [WEBHOOK_LANE] = true }
for _, worker in ipairs(redis.call('ZREVRANGE', WORKER_LAST_SEEN, 0, -1)) do
  local is_alive = redis.call('ZSCORE', WORKERS, worker)
  if not is_alive then lost = lost + 1 end
  if is_alive or lost <= max_lost then
    local report = redis.call('GET', WORKER_REPORT .. worker)
    reports[#reports + 1], reports[#reports + 2] = worker, report
    local configured = is_alive and report and string.match(report, '^%S+ (%S*) ') or ''
    for lane in string.gmatch(configured, '[^,]+') do lanes[lane] = true end
  end
end
for _, lane in ipairs(redis.call('ZRANGE', CALLED_LANES, 0, -1)) do lanes[lane] = true end
for _, lane in ipairs(redis.call('ZRANGE', ACTIVE_LANES, 0, -1)) do
  -- A lane that no worker serves stays in the index, even without items.
  local places = redis.call('EXISTS', DEPTH .. lane, QUARANTINE .. lane, DEFERRED .. lane, LEASES .. lane)
  if places > 0 then lanes[lane] = true end
end
local reply = { ms(now_ms), redis.call('ZRANGE', WORKERS, 0, -1, 'WITHSCORES'), reports }
for lane in pairs(lanes) do reply[#reply + 1] = read_lane(lane) end
return reply
