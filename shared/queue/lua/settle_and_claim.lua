#!lua flags=allow-oom
-- Runs one round of a worker: settles leases whose calls have ended, requeues the items whose lease has expired and the
-- deferred items that are due, and claims items that may run now. Each claimed item gets a lease. Each lease uses one
-- slot of the lane's limit.
-- Constants: LEASE_MS,
--            MAX_CLAIM (limit of items per round),
--            INTERACTIVE_WEIGHT (number of interactive items that are served per bulk item of the same owner),
--            MAX_WORKER_LOSSES, LOST_RESULT (the result of an item that lost MAX_WORKER_LOSSES workers),
--            BROKEN_STREAM_RESULT (the result of an item whose answer was streamed in part),
--            WAITED_RESULT (the result of an item that has waited for too long; its error is a format string),
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
--         usage (as JSON: see CallUsage in shared/queue/leases.py; '' if nothing has to be learned from the call)
--         outcome 'complete', 'fail'  the item finishes with `result`, or moves on after 'fail': see fallbacks.lua
--                 'retry'             the attempt failed; the item runs again after delay_ms. If delay_ms is '', the
--                                     item moves on to its next fallback, or finishes with `result`. If the fault is
--                                     the provider's, the attempt does not count, and the item waits until its route is
--                                     healthy, for a limited time: see pauses.lua and waiting.lua.
--                 'release'           the item was not run, or its call was stopped; the item is queued again and keeps
--                                     its number of failed attempts: see requeue.lua for the exceptions
--       Settling a lease that has expired only removes the worker loss that was counted for the lease.
-- Returns: {ms until the next round has something to do ('': unknown),
--          {a list per claimed item: item, lease, lane, payload, number of failed attempts that count, number of failed
--          attempts that do not count, time in µs of the first claim ('': this claim), number of worker losses since
--          the last failed attempt, queued_ms, ms until the job's deadline ('': no deadline), account, model that the
--          account gets ('': the item's own), what was tried before the item moved to this route, as JSON ('':
--          nothing), owner},
--          {a list per item that the script has finished with an error: see round_reply.lua},
--          {a list per item that gets a longer time-out: lease, factor of the time-out: see health_records.lua}}
--- @include "active_lanes"
--- @include "claim"
--- @include "clock"
--- @include "job_end"
--- @include "lane_limits"
--- @include "lane_room"
--- @include "lease_correction"
--- @include "round_reply"
--- @include "settlement"
--- @include "worker_slots"
--- @include "write_results"
local VALUES_PER_LANE, VALUES_PER_SETTLEMENT = 2, 8
local OTHER_LANES_MS = 100
local limits, rules, deployments, lane_count, free_slots, quarantined, running_count, worker = unpack(ARGV, 1, 8)
local first_running = 9
local first_settlement = first_running + VALUES_PER_LANE * running_count
local is_claiming = free_slots ~= '0'
set_configuration(limits, rules, deployments)
set_free_slots(tonumber(free_slots))
set_worker(worker, tonumber(quarantined))
for i = first_running, first_settlement - 1, VALUES_PER_LANE do running[ARGV[i]] = tonumber(ARGV[i + 1]) end

correct_leases()

-- Deadlines come first: a result that arrives after the job's deadline is not stored.
wake_at(end_overdue_jobs() or math.huge)
local has_freed_slot = false
for i = first_settlement, #ARGV, VALUES_PER_SETTLEMENT do
  if settle(unpack(ARGV, i, i + VALUES_PER_SETTLEMENT - 1)) then has_freed_slot = true end
end

-- Expired leases and due items come before the claim, because they return to the queues.
local lanes, are_all = {}, true
if is_claiming then lanes, are_all = some_lanes() end
if not are_all then wake_at(now_ms + OTHER_LANES_MS) end
local ready_lanes, allowed = {}, {}
for _, lane in ipairs(lanes) do
  allowed[lane] = prepare_lane(lane)
  if allowed[lane] > 0 then ready_lanes[#ready_lanes + 1] = lane end
end

-- The worker's slots are divided when all ready lanes are known, so that no lane takes all slots.
divide_slots(ready_lanes, #ready_lanes < tonumber(lane_count))
local has_left_items = false
for _, lane in ipairs(ready_lanes) do
  -- If lanes share a provider, an earlier lane of this round may have used up the provider's limit.
  if deployments ~= '' then allowed[lane] = math.min(allowed[lane], room_of_lane(lane)) end
  if claim_items(lane, allowed[lane]) then has_left_items = true end
end

record_finished_items()
-- Other workers may claim items for the slots that this round has freed and not used.
local has_slots_for_others = has_freed_slot and (has_left_items or not is_claiming)
if has_slots_for_others or next(has_recovered) then redis.call('PUBLISH', WAKE, '') end
return { next_round_in_ms(), claimed, unreported, longer_time_outs }
