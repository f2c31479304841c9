#!lua flags=allow-oom
-- Runs one round of a worker: settles leases whose calls have ended, requeues the items whose lease has expired and the
-- deferred items that are due, and claims items that may run now. Each claimed item gets a lease. Each lease uses one
-- slot of the lane's limit.
-- Constants: LEASE_MS,
--            MAX_CLAIM (limit of items per round),
--            INTERACTIVE_WEIGHT (number of interactive items that are served per bulk item of the same owner),
--            MAX_WORKER_LOSSES, LOST_RESULT (the result of an item that lost MAX_WORKER_LOSSES workers),
--            BROKEN_STREAM_RESULT (the result of an item whose answer was streamed in part),
--            OUTAGE_WAIT_MS (time for which an item waits for an open route)
-- ARGV: limits (the lanes that this worker serves, with their limits: see lane_limits.lua),
--       rules (further limits, as JSON by lane: see limiters.lua),
--       deployments (as JSON by lane, for the lanes with several: see deployments.lua),
--       lane_count (number of these lanes),
--       free_slots (number of items that this worker can still take; with 0 the script claims nothing),
--       quarantined (number of quarantined items that this worker runs),
--       running_count (number of lanes whose items this worker runs),
--       worker (id of this worker),
--       then two values per lane whose items this worker runs: name, number of the items,
--       then eight values per settlement: lane, lease, outcome, result, latency_us (duration of the provider call),
--         delay_ms, fault (how the call failed, as JSON: see Fault in shared/queue/leases.py; '' for no failed call),
--         usage (as JSON: see Usage in shared/queue/leases.py; '' if nothing has to be learned from the call)
--         outcome 'complete', 'fail'  the item finishes with `result`
--                 'retry'             the attempt failed; the item runs again after delay_ms, or finishes with `result`
--                                     if delay_ms is ''. If the fault is the provider's, the attempt does not count,
--                                     and the item waits until its route is healthy: see pauses.lua.
--                 'release'           the item was not run, or its call was stopped; the item is queued again and keeps
--                                     its number of failed attempts; if its job has ended, the item is dropped
--       Settling a lease that has expired only removes the worker loss that was counted for the lease.
-- Returns: {ms until the next round has something to do ('': unknown),
--          {fourteen values per claimed item: item, lease, lane, payload, number of failed attempts that count, number of
--          failed attempts that do not count, time in µs of the first claim ('': this claim), number of worker losses
--          since the last failed attempt, queued_ms, ms until the job's deadline ('': no deadline), account, model that
--          the account gets ('': the item's own), what was tried before the item moved to this route, as JSON ('':
--          nothing), owner},
--          {four values per item that the script has finished with an error: see results.lua},
--          {two values per claimed item that gets a longer time-out: lease, factor of the time-out: see health_records.lua}}
--- @include "active_lanes"
--- @include "clock"
--- @include "job_end"
--- @include "round"
--- @include "is_healthy"
--- @include "usual_lane"
--- @include "health_records"
--- @include "waiting"
--- @include "settlement"
--- @include "reclaim"
--- @include "leasing"
--- @include "fair_share"
--- @include "results"
--- @include "worker_slots"
--- @include "fair_part"
--- @include "lane_limits"
--- @include "limits_in_force"
--- @include "deployments"
--- @include "set_back"
--- @include "work"
local values_per_lane, values_per_settlement = 2, 8 -- numbers of values in ARGV
local limits, rules, deployments, lane_count, free_slots, quarantined, running_count, worker = unpack(ARGV, 1, 8)
local first_running = 9
local first_settlement = first_running + values_per_lane * running_count
lane_count, quarantined = tonumber(lane_count), tonumber(quarantined)
set_free_slots(tonumber(free_slots))
local is_claiming = free_slots ~= '0'
set_configuration(limits, rules, deployments)
for i = first_running, first_settlement - 1, values_per_lane do running[ARGV[i]] = tonumber(ARGV[i + 1]) end
local OTHER_LANES_MS = 100
local backlogs = {} -- what the lanes have: see `backlog`
local max_claim, next_round_ms, has_freed_slot, has_left_items = MAX_CLAIM, math.huge, false, false

local function wake_at(time_ms)
  if time_ms < next_round_ms then next_round_ms = time_ms end
end

-- Returns the limit of a lane that is in force, or nil if this worker does not serve the lane.
local function lane_limit(lane)
  local configured = configured_limit(lane)
  if not configured or is_usual(lane) then return configured end
  local limit = 0
  for provider in pairs(providers_of(lane)) do limit = limit + (effective_limit(provider) or 0) end
  return limit
end

-- Returns the number of calls that the limits of the lane's providers allow to start.
local function room_of_lane(lane)
  if is_usual(lane) then return math.max(0, configured_limit(lane) - redis.call('ZCARD', LEASES .. lane)) end
  local room = 0
  for provider in pairs(providers_of(lane)) do
    room = room + math.max(0, (effective_limit(provider) or 0) - redis.call('ZCARD', LEASES .. provider))
  end
  return room
end

local QUARANTINED = 2

-- Returns what a lane has: 0 for nothing, 1 for queued items, QUARANTINED for items in the quarantine, QUARANTINED + 1
-- for both. EXISTS counts a key as often as it is named.
local function backlog(lane) return redis.call('EXISTS', FAIR_QUEUE .. lane, QUARANTINE .. lane, QUARANTINE .. lane) end

-- Returns the time at which the queues that wait for a scope can change something, or nil, and the number of calls that
-- the health of the lane allows, with the time at which that changes.
local function look_at_health(lane)
  local blocked_ms = resume_blocked(lane)
  if not is_plain(lane) then return blocked_ms, math.huge end
  return blocked_ms, gate(lane, ACCOUNT)
end

-- Requeues the lane's items that may run again. Returns the number of items that the lane's limit and health allow to
-- start now; 0 if no item is queued.
local function prepare(lane, limit)
  local expires_ms, due_ms = earliest(LEASES .. lane), clock_time(earliest(DEFERRED .. lane))
  if expires_ms and expires_ms <= now_ms then expires_ms = reclaim_expired(lane) end
  if due_ms and due_ms <= now_ms then due_ms = requeue_due(lane) end
  if expires_ms then wake_at(expires_ms) end
  if due_ms then wake_at(due_ms) end
  local blocked_ms, allowed, next_ms = nil, math.huge, nil
  if not is_usual(lane) and not is_healthy(lane) then blocked_ms, allowed, next_ms = look_at_health(lane) end
  if blocked_ms then wake_at(blocked_ms) end

  backlogs[lane] = backlog(lane)
  if backlogs[lane] > 0 then
    if allowed > 0 then
      local left = room_of_lane(lane)
      if left == 0 then note_hunger(lane, limit, worker) end
      return left
    end
    -- `take_fairly` claims nothing, but moves the queues to WAITING, so that their items can give up.
    if open_record(lane, ACCOUNT) then return 1 end
    wake_at(next_ms)
  elseif not expires_ms and not due_ms and not blocked_ms then
    remove_lane(lane)
  end
  return 0
end

-- Claims up to `allowed` items of a lane, as this worker's slots and its part of the limit permit.
local function claim_items(lane, allowed)
  local limit, claimed_count = lane_limit(lane), 0
  local most = math.min(allowed, slots_for(lane), max_claim, part_left(lane, limit, worker))
  if backlogs[lane] >= QUARANTINED and quarantined < 1 and most > 0 then
    local has_more
    claimed_count, has_more = lease_quarantined(lane)
    if has_more then wake_at(now_ms) end
    quarantined = quarantined + claimed_count
  end
  if most > claimed_count then
    local count, has_more_moves, next_ms = take_fairly(lane, most - claimed_count, INTERACTIVE_WEIGHT, allowed - claimed_count)
    claimed_count = claimed_count + count
    wake_at(next_ms)
    if has_more_moves then wake_at(now_ms) end
  end
  use_slots(lane, claimed_count)
  max_claim = max_claim - claimed_count
  if not is_usual(lane) and not is_healthy(lane) then wake_at(clock_time(earliest(BLOCKED .. lane)) or math.huge) end
  if claimed_count > 0 then
    wake_at(now_ms + LEASE_MS)
    mark_claimed(lane)
  end
  local left = allowed - claimed_count
  if (left > 0 or (running[lane] or 0) < limit) and backlog(lane) > 0 then
    if left == 0 then
      note_hunger(lane, limit, worker)
    else
      has_left_items = true
      if max_claim <= 0 and slots_for(lane) > 0 then wake_at(now_ms) end
    end
  end
end

-- Corrects the times of leases after Redis's clock was set back. `lanes` has the lanes that are left, after a space each.
-- Workers may have renewed leases since then, so the times are limited, not moved.
local function correct_leases(lanes)
  while lanes ~= '' and has_work_left() do
    local lane, others = string.match(lanes, '^ (%S+)(.*)$')
    if lower(LEASES .. lane, now_ms + LEASE_MS) then
      look_at_all_again(lane)
      lanes = others
    end
  end
  set_left(lanes)
  if lanes ~= '' then wake_at(now_ms) end
end

local is_set_back, lanes_left = read_set_back('rounds')
if is_set_back then lanes_left = ' ' .. table.concat(active_lanes(), ' ') end
if lanes_left then correct_leases(lanes_left == ' ' and '' or lanes_left) end

-- Deadlines come first: a result that arrives after the job's deadline is not stored.
wake_at(end_overdue_jobs() or math.huge)
for i = first_settlement, #ARGV, values_per_settlement do
  if settle(unpack(ARGV, i, i + values_per_settlement - 1)) then has_freed_slot = true end
end

local ready_lanes, allowed = {}, {}
local lanes, are_all = {}, true
if is_claiming then lanes, are_all = some_lanes() end
if not are_all then wake_at(now_ms + OTHER_LANES_MS) end
for _, lane in ipairs(lanes) do
  local limit = lane_limit(lane)
  allowed[lane] = limit and prepare(lane, limit) or 0
  if allowed[lane] > 0 then ready_lanes[#ready_lanes + 1] = lane end
end
divide_slots(ready_lanes, #ready_lanes < lane_count)
for _, lane in ipairs(ready_lanes) do
  -- If lanes share a provider, an earlier lane of this round may have used up its limit.
  if deployments ~= '' then allowed[lane] = math.min(allowed[lane], room_of_lane(lane)) end
  claim_items(lane, allowed[lane])
end

record_finished_items()
-- Other workers may claim items for the slots that this round has freed and not used.
if has_freed_slot and (has_left_items or not is_claiming) or next(has_recovered) then redis.call('PUBLISH', WAKE, '') end
-- leasing.lua has filled `claimed`.
local delay_ms = next_round_ms < math.huge and math.max(0, next_round_ms - now_ms)
return { delay_ms and ms(delay_ms) or '', claimed, unreported, patience }
