#!lua flags=allow-oom
-- Runs one round of a worker: settles leases whose calls have ended, requeues the items whose lease has expired and the
-- deferred items that are due, and claims items that may run now. Each claimed item gets a lease. Each lease uses one
-- slot of the lane's limit.
-- Constants: LEASE_MS, MAX_CLAIM (limit of items per round), INTERACTIVE_WEIGHT (number of interactive items that are
--            served per bulk item of the same owner), MAX_WORKER_LOSSES, LOST_RESULT (the result of an item that lost
--            MAX_WORKER_LOSSES workers)
-- ARGV: free_slots (number of items that this worker can still take),
--       reserve (number of slots per lane that other lanes must leave free in this worker),
--       quarantined (number of quarantined items that this worker runs),
--       lane_count (with 0 lanes the script claims nothing),
--       then three values per lane: name, limit, number of the lane's items that this worker runs,
--       then seven values per settlement: lane, lease, outcome, value, latency_us, pause_ms (0: no pause), pause_reason
--         outcome 'complete', 'fail'  the item finishes; value: its result; latency_us: duration of the provider call
--                 'retry'             the attempt failed; value: ms until the next attempt
--                 'release'           the item was not run, or its call was stopped; the item is queued again and keeps
--                                     its number of failed attempts; if its job has ended, the item is dropped
--       Settling a lease that has expired only removes the worker loss that was counted for the lease.
-- Returns: {ms until the next round has something to do ('': unknown),
--          {nine values per claimed item: item, lease, lane, payload, number of failed attempts, time in µs of the first
--          claim ('': this claim), number of worker losses since the last failed attempt, queued_ms, ms until the job's
--          deadline ('': no deadline)}}
--- @include "clock"
--- @include "pauses"
--- @include "job_cache"
--- @include "job_end"
--- @include "settlement"
--- @include "reclaim"
--- @include "leasing"
--- @include "fair_share"
--- @include "results"
local values_per_lane, values_per_settlement = 3, 7 -- numbers of values in ARGV
local free_slots, reserve, quarantined, lane_count = unpack(ARGV, 1, 4)
free_slots, reserve, quarantined = tonumber(free_slots), tonumber(reserve), tonumber(quarantined)
local first_lane, max_claim = 5, MAX_CLAIM
local first_settlement = first_lane + values_per_lane * lane_count
local next_round_ms, has_freed_slot, has_left_items = nil, false, false

local function wake_at(time_ms)
  if not next_round_ms or time_ms < next_round_ms then next_round_ms = time_ms end
end

local running = {}
for i = first_lane, first_settlement - 1, values_per_lane do running[ARGV[i]] = tonumber(ARGV[i + 2]) end

-- Returns the number of slots that a lane must leave free, so that one busy lane cannot fill the worker and delay the
-- other lanes.
local function reserved_for_others(lane)
  local reserved = 0
  for other, count in pairs(running) do
    if other ~= lane then reserved = reserved + math.max(0, reserve - count) end
  end
  return reserved
end

local function has_backlog(lane) return redis.call('EXISTS', FAIR_QUEUE .. lane, QUARANTINE .. lane) > 0 end

-- Claims as many items as the lane's limit and this worker's free slots allow.
local function claim_items(lane, limit)
  local free = limit - redis.call('ZCARD', LEASES .. lane)
  local function capacity() return math.max(0, math.min(free, free_slots - reserved_for_others(lane), max_claim)) end
  local function count_claimed(count)
    if count > 0 then wake_at(now_ms + LEASE_MS) end
    running[lane], free = running[lane] + count, free - count
    free_slots, max_claim = free_slots - count, max_claim - count
  end
  if quarantined < 1 and capacity() > 0 then
    local count = lease_quarantined(lane)
    quarantined = quarantined + count
    count_claimed(count)
  end
  if capacity() > 0 then
    count_claimed(take_fairly(lane, capacity(), INTERACTIVE_WEIGHT, function(id, indexes)
      lease_items(lane, load_job(id), indexes)
    end))
  end
  if free > 0 and has_backlog(lane) then
    has_left_items = true
    if max_claim <= 0 and free_slots > reserved_for_others(lane) then wake_at(now_ms) end
  end
end

-- Deadlines come first: a result that arrives after the job's deadline is not stored.
next_round_ms = end_overdue_jobs()
for i = first_settlement, #ARGV, values_per_settlement do
  if settle(unpack(ARGV, i, i + values_per_settlement - 1)) then has_freed_slot = true end
end

for i = first_lane, first_settlement - 1, values_per_lane do
  local lane, limit = ARGV[i], tonumber(ARGV[i + 1])
  local expires_ms, due_ms = earliest(LEASES .. lane), earliest(DEFERRED .. lane)
  if expires_ms and expires_ms <= now_ms then expires_ms = reclaim_expired(lane) end
  if due_ms and due_ms <= now_ms then due_ms = requeue_due(lane) end
  if expires_ms then wake_at(expires_ms) end
  if due_ms then wake_at(due_ms) end

  if has_backlog(lane) then
    local until_ms = paused_until(lane)
    if until_ms > now_ms then wake_at(until_ms) else claim_items(lane, limit) end
  end
end

record_finished_items()
-- Other workers may claim items for the slots that this round has freed and not used.
if has_freed_slot and (has_left_items or lane_count == '0') then redis.call('PUBLISH', WAKE, '') end
-- leasing.lua has filled `claimed`.
return { next_round_ms and ms(math.max(0, next_round_ms - now_ms)) or '', claimed }
