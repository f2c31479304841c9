#!lua flags=no-writes
-- Reads the workers and the lanes in use: the webhook lane, the lanes whose calls an alive worker can make, the active
-- lanes, and the lanes that had calls in the last hour. One run does limited work, so it may leave lanes to the next
-- runs.
-- ARGV: max_jobs (limit of jobs to search per lane for the oldest item), max_lost (limit of lost workers to return),
--       max_scopes (limit of scopes to return per lane), max_workers (limit of workers to return),
--       then in the next runs the lanes to read
-- Returns: {now_ms,
--          {worker, time in ms after which the worker is lost, …},
--          {worker, the worker's last report or false, …},
--          {lanes that this run has left out},
--          then per lane {name, number of leases, number of queued items (see queue_depth.lua), number of deferred
--          items, time in ms at which the oldest queued item was accepted or false, a list of up to max_scopes scopes
--          that are not healthy (see health_records.lua), the limits that were set while work runs as JSON or false,
--          the state of the adaptive limit as JSON or false}}
--          A scope is {name, time in ms at which the pause ends, time in ms at which the scope opened or the pause
--          began, 1 if the scope is open or 0, verdict, reason, 1 if a probe is running or 0, number of the account's
--          key}. The scopes '' of accounts come first.
--          The next runs return no workers.
--- @include "clock"
--- @include "queue_depth"
--- @include "work_limit"
local max_jobs, max_lost = tonumber(ARGV[1]), tonumber(ARGV[2])
local max_scopes, max_workers = tonumber(ARGV[3]), tonumber(ARGV[4])
local first_lane = 5
local LANE_WORK, JOB_WORK, OWNER_WORK = 15, 2, 2 -- numbers of commands
local MAX_RECORDS = 200 -- limit of the scopes of an account that are looked at

-- Returns the time at which a job was accepted, if items of the job are in the lane's queues.
local function queued_since(lane, job_id)
  local routes, accepted_ms = unpack(redis.call('HMGET', JOB .. job_id, 'routes', 'accepted_ms'))
  spend(JOB_WORK + (routes and #routes / 500 or 0)) -- a job can have many routes
  local queues = {}
  for i, route in ipairs(routes and cjson.decode(routes)[lane] or {}) do
    queues[i] = QUEUE .. lane .. ':' .. job_id .. ':' .. route
  end
  if queues[1] and redis.call('EXISTS', unpack(queues)) > 0 then return accepted_ms end
end

-- Returns the time at which the oldest queued item of a lane was accepted, or nil. Searches at most max_jobs jobs, and
-- only while the run has work left: see work_limit.lua.
local function find_oldest(lane)
  local oldest_ms
  local searched = 0
  local function consider(accepted_ms)
    accepted_ms = tonumber(accepted_ms)
    if accepted_ms and not (oldest_ms and oldest_ms < accepted_ms) then oldest_ms = accepted_ms end
  end
  local function consider_job(job_id) -- returns whether the search may continue
    searched = searched + 1
    if searched > max_jobs or not has_work_left() then return false end
    consider(queued_since(lane, job_id))
    return true
  end
  for _, owner in ipairs(redis.call('ZRANGE', FAIR_QUEUE .. lane, 0, max_jobs)) do
    spend(OWNER_WORK)
    for _, class in ipairs({ 'interactive', 'bulk' }) do
      for _, job_id in ipairs(redis.call('ZRANGE', FAIR_QUEUE .. lane .. ':' .. owner .. ':' .. class, 0, max_jobs)) do
        if not consider_job(job_id) then return oldest_ms end
      end
    end
  end
  for _, scope in ipairs(redis.call('ZRANGE', BLOCKED .. lane, 0, max_jobs)) do
    spend(1)
    for _, queue in ipairs(redis.call('ZRANGE', WAITING .. lane .. ':' .. scope, 0, max_jobs)) do
      if not consider_job(string.match(queue, '^%S+')) then return oldest_ms end
    end
  end
  consider(redis.call('ZRANGE', QUARANTINE .. lane, 0, 0, 'WITHSCORES')[2])
  return oldest_ms
end

-- Returns the existing keys HEALTH of a provider's accounts, by the account's number: see deployments.lua.
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
  local records = redis.call('HLEN', key)
  local stored = records <= MAX_RECORDS and redis.call('HGETALL', key)
    or redis.call('HRANDFIELD', key, MAX_RECORDS, 'WITHVALUES')
  local of_account = records > MAX_RECORDS and redis.call('HGET', key, '')
  if of_account then
    for i = 1, #stored, 2 do
      if stored[i] == '' then of_account = false end
    end
  end
  if of_account then stored[1], stored[2] = '', of_account end
  spend(#stored / 2)
  for i = 1, #stored, 2 do
    local scope, record = stored[i], cmsgpack.unpack(stored[i + 1])
    local until_ms = math.min(record.until_ms, now_ms + record.pause_ms)
    if record.opened_ms or until_ms > now_ms then
      local is_probing = record.probe and redis.call('ZSCORE', LEASES .. lane, record.probe) and 1 or 0
      local since_ms = math.min(record.opened_ms or until_ms - record.pause_ms, now_ms)
      local is_open = record.opened_ms and 1 or 0
      table.insert(scopes, scope == '' and 1 or #scopes + 1,
        { scope, ms(until_ms), ms(since_ms), is_open, record.verdict, record.reason, is_probing, number })
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
  spend(LANE_WORK)
  local queued = redis.call('ZCARD', QUARANTINE .. lane) + queue_depth(lane)
  local oldest_ms = queued > 0 and find_oldest(lane)
  return { lane, redis.call('ZCARD', LEASES .. lane), queued, redis.call('ZCARD', DEFERRED .. lane),
    oldest_ms and ms(math.min(oldest_ms, now_ms)) or false, read_scopes(lane), redis.call('HGET', LIMITS, lane),
    redis.call('HGET', CAPS, lane) }
end

local reports, names, known, configured_by = {}, {}, {}, {}

local function add(lane)
  if not known[lane] then names[#names + 1] = lane end
  known[lane] = true
end

local function read_workers()
  local workers, lost, keys = redis.call('ZREVRANGE', WORKER_LAST_SEEN, 0, max_workers - 1), 0, {}
  if not workers[1] then return end
  for i, worker in ipairs(workers) do keys[i] = WORKER_REPORT .. worker end
  local alive, stored = redis.call('ZMSCORE', WORKERS, unpack(workers)), redis.call('MGET', unpack(keys))
  for i, worker in ipairs(workers) do
    if not alive[i] then lost = lost + 1 end
    if alive[i] or lost <= max_lost then
      reports[#reports + 1], reports[#reports + 2] = worker, stored[i]
      local configured = alive[i] and stored[i] and string.match(stored[i], '^%S+ (%S*) ') or ''
      if not configured_by[configured] then -- usually all workers have the same lanes
        for lane in string.gmatch(configured, '[^,]+') do add(lane) end
      end
      configured_by[configured] = true
    end
  end
end

local function find_lanes()
  add(WEBHOOK_LANE)
  read_workers()
  for _, lane in ipairs(redis.call('ZRANGE', CALLED_LANES, 0, -1)) do add(lane) end
  for _, lane in ipairs(redis.call('ZRANGE', ACTIVE_LANES, 0, -1)) do
    if not known[lane] then
      -- A lane that no worker serves stays in the index, even without items.
      spend(1)
      local keys = { DEPTH .. lane, QUARANTINE .. lane, DEFERRED .. lane, LEASES .. lane }
      if redis.call('EXISTS', unpack(keys)) > 0 then add(lane) end
    end
  end
end

if ARGV[first_lane] then
  for i = first_lane, #ARGV do add(ARGV[i]) end
else
  find_lanes()
end
local alive = ARGV[first_lane] and {} or redis.call('ZRANGE', WORKERS, 0, max_workers - 1, 'WITHSCORES')
local left, reply = {}, { ms(now_ms), alive, reports }
reply[4] = left
for i, lane in ipairs(names) do
  if i == 1 or has_work_left() then reply[#reply + 1] = read_lane(lane) else left[#left + 1] = lane end
end
return reply
