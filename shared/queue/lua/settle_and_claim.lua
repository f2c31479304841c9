#!lua flags=allow-oom
-- A worker's round. It settles leases whose calls have ended, takes back leases that have ended by themselves, and
-- claims items that may run now: each comes with a lease, which is its slot of the lane's limit.
-- Constants: LEASE_MS, MAX_CLAIM (items of one round), INTERACTIVE_WEIGHT (against 1 of bulk work), MAX_WORKER_LOSSES,
--            LOST_RESULT (of an item that has reached them)
-- ARGV: free_slots (items that this worker can still take), reserve (slots that it keeps free for each lane),
--       quarantined (items from the quarantine that it runs), count of lanes,
--       then three per lane: name, limit, items of it that this worker runs (no lanes: it claims nothing),
--       then seven per settlement: lane, lease, outcome, value, latency_us, pause_ms (0: none), pause_reason
--         outcome 'complete', 'fail'  the item finishes; value: its result, latency_us: of its call
--                 'retry'             an attempt failed; value: ms until the next one
--                 'release'           not run, or stopped: costs no attempt; drops an item of a finished job
--       Settling a lease that is not held any more changes nothing, but the worker no longer counts as lost for it.
-- Returns: {ms until the next round makes sense ('' if no time is known),
--          then per claimed item: item, lease, lane, payload, failed attempts, µs of its first claim ('': this one),
--          worker losses, queued_ms, ms until the job's deadline ('': none)}
--- @include "clock"
--- @include "ids"
--- @include "pauses"
--- @include "job_cache"
--- @include "attempts"
--- @include "moves"
--- @include "job_end"
--- @include "results"
--- @include "fair_share"
local LANE, SETTLEMENT = 3, 7 -- arguments of each
local free_slots, reserve, quarantined, lane_count = unpack(ARGV, 1, 4)
free_slots, reserve, quarantined = tonumber(free_slots), tonumber(reserve), tonumber(quarantined)
local first_lane, max_claim = 5, MAX_CLAIM
local first_settlement = first_lane + LANE * lane_count
local claim = string.format('%.0f', now * 1000) -- unique: no two rounds run in the same µs
local reply, next_round = { '' }, nil
local freed, left_over = false, false

local function wake_at(time)
  if not next_round or time < next_round then next_round = time end
end

local function settle(lane, lease, outcome, value, latency_us, pause_ms, pause_reason)
  local id, index, old_claim = split_lease(lease)
  local job = load_job(id)
  if redis.call('ZREM', LEASES .. lane, lease) == 0 then return forgive_loss(job, index, old_claim) end
  freed = true
  if tonumber(pause_ms) > 0 then pause(lane, tonumber(pause_ms), pause_reason) end
  if outcome == 'complete' or outcome == 'fail' then
    write_result(job, index, outcome == 'fail', value, tonumber(latency_us))
  elseif outcome == 'retry' and job.unfinished then
    local failed, first_claim = read_attempts(job, index)
    save_attempts(job, index, failed + 1, first_claim == '' and old_claim or first_claim, '')
    if tonumber(value) > 0 then
      park(DEFERRED, lane, job, index, now + tonumber(value))
    else
      requeue(lane, job, index)
    end
  elseif outcome == 'release' then
    requeue(lane, job, index)
  end
end

-- The lease has ended: its worker was lost or cut off. The item runs again, unless it keeps killing workers.
local function reclaim(lane, lease)
  redis.call('ZREM', LEASES .. lane, lease)
  local id, index, old_claim = split_lease(lease)
  local job = load_job(id)
  if not job.unfinished then return end
  local failed, first_claim, losses = read_attempts(job, index)
  losses = losses .. ' ' .. old_claim
  save_attempts(job, index, failed, first_claim == '' and old_claim or first_claim, losses)
  if count_losses(losses) >= MAX_WORKER_LOSSES then
    write_result(job, index, true, LOST_RESULT, 0)
  else
    requeue(lane, job, index)
  end
end

-- Both return the next time at which there is something to do, or nil.
local function reclaim_ended(lane)
  local leases = LEASES .. lane
  for _, lease in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 1000)) do reclaim(lane, lease) end
  return earliest(leases)
end

local function requeue_due(lane)
  local deferred = DEFERRED .. lane
  for _, item in ipairs(redis.call('ZRANGEBYSCORE', deferred, '-inf', now, 'LIMIT', 0, 1000)) do
    redis.call('ZREM', deferred, item)
    local job, index = unpark(item)
    requeue(lane, job, index)
  end
  return earliest(deferred)
end

-- Leases items of a job. Returns how many: those whose job has finished are dropped.
local function lease_items(lane, job, indexes)
  if not job.unfinished then return 0 end
  if not job.started then redis.call('HSET', JOB .. job.id, 'started_ms', ms(now)) end
  job.started = true
  local payloads = redis.call('HMGET', PAYLOADS .. job.id, unpack(indexes))
  local entries = job.has_attempts and redis.call('HMGET', ATTEMPTS .. job.id, unpack(indexes)) or {}
  local queued_ms = ms(now - tonumber(job.accepted_ms))
  local left_ms = job.deadline_ms and ms(job.deadline_ms - now) or ''
  local lease_end, leases = ms(now + LEASE_MS), {}
  for i, index in ipairs(indexes) do
    if payloads[i] then
      local item = job.id .. ':' .. index
      local lease = item .. '@' .. claim
      leases[#leases + 1], leases[#leases + 2] = lease_end, lease
      local failed, first_claim, losses = '0', '', ''
      if entries[i] then failed, first_claim, losses = parse_attempts(entries[i]) end
      for _, value in ipairs({ item, lease, lane, payloads[i], failed, first_claim, count_losses(losses), queued_ms, left_ms }) do
        reply[#reply + 1] = value
      end
    end
  end
  if #leases > 0 then redis.call('ZADD', LEASES .. lane, unpack(leases)) end
  return #leases / 2
end

local function lease_quarantined(lane)
  while true do
    local item = redis.call('ZPOPMIN', QUARANTINE .. lane)[1]
    if not item then return 0 end
    local job, index = unpark(item)
    if lease_items(lane, job, { index }) > 0 then return 1 end
  end
end

local running = {}
for i = first_lane, first_settlement - 1, LANE do running[ARGV[i]] = tonumber(ARGV[i + 2]) end

-- Slots kept free so that one busy lane cannot fill the worker and delay the others.
local function reserved_for_others(name)
  local reserved = 0
  for lane, count in pairs(running) do
    if lane ~= name then reserved = reserved + math.max(0, reserve - count) end
  end
  return reserved
end

local function has_backlog(lane) return redis.call('EXISTS', FAIR_QUEUE .. lane, QUARANTINE .. lane) > 0 end

-- Claims what the lane's limit and this worker have room for.
local function admit(lane, limit)
  local free = limit - redis.call('ZCARD', LEASES .. lane)
  local function capacity() return math.max(0, math.min(free, free_slots - reserved_for_others(lane), max_claim)) end
  local function consume(count)
    if count > 0 then wake_at(now + LEASE_MS) end
    running[lane], free, free_slots, max_claim = running[lane] + count, free - count, free_slots - count, max_claim - count
  end
  if quarantined < 1 and capacity() > 0 then
    local count = lease_quarantined(lane)
    quarantined = quarantined + count
    consume(count)
  end
  if capacity() > 0 then
    consume(take_fairly(lane, capacity(), INTERACTIVE_WEIGHT, function(id, indexes)
      lease_items(lane, load_job(id), indexes)
    end))
  end
  if free > 0 and has_backlog(lane) then
    left_over = true
    if max_claim <= 0 and free_slots > reserved_for_others(lane) then wake_at(now) end
  end
end

-- Deadlines come first: a result that arrives after its deadline is too late.
next_round = finish_overdue_jobs()
for i = first_settlement, #ARGV, SETTLEMENT do settle(unpack(ARGV, i, i + SETTLEMENT - 1)) end

for i = first_lane, first_settlement - 1, LANE do
  local lane, limit = ARGV[i], tonumber(ARGV[i + 1])
  local lease_end, due = earliest(LEASES .. lane), earliest(DEFERRED .. lane)
  if lease_end and lease_end <= now then lease_end = reclaim_ended(lane) end
  if due and due <= now then due = requeue_due(lane) end
  if lease_end then wake_at(lease_end) end
  if due then wake_at(due) end

  if has_backlog(lane) then
    local until_ms = paused_until(lane)
    if until_ms > now then wake_at(until_ms) else admit(lane, limit) end
  end
end

record_finished_items()
-- Other workers may take what this round has freed and not claimed.
if freed and (left_over or lane_count == '0') then redis.call('PUBLISH', WAKE, '') end
if next_round then reply[1] = ms(math.max(0, next_round - now)) end
return reply
