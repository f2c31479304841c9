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
-- Returns: {ms until the next round makes sense ('' if no time is known), {nine per claimed item: item, lease, lane,
--          payload, failed attempts, µs of its first claim ('': this one), worker losses, queued_ms, ms until the job's
--          deadline ('': none)}}
--- @include "clock"
--- @include "pauses"
--- @include "job_cache"
--- @include "job_end"
--- @include "settlement"
--- @include "reclaim"
--- @include "leasing"
--- @include "fair_share"
--- @include "results"
local LANE, SETTLEMENT = 3, 7 -- arguments of each
local free_slots, reserve, quarantined, lane_count = unpack(ARGV, 1, 4)
free_slots, reserve, quarantined = tonumber(free_slots), tonumber(reserve), tonumber(quarantined)
local first_lane, max_claim = 5, MAX_CLAIM
local first_settlement = first_lane + LANE * lane_count
local next_round, freed, left_over = nil, false, false

local function wake_at(time)
  if not next_round or time < next_round then next_round = time end
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
for i = first_settlement, #ARGV, SETTLEMENT do
  if settle(unpack(ARGV, i, i + SETTLEMENT - 1)) then freed = true end
end

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
return { next_round and ms(math.max(0, next_round - now)) or '', claimed }
