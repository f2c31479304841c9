--- @include "active_lanes"
--- @include "clock"
--- @include "worker_share"
--- @include "fair_share"
--- @include "health_records"
--- @include "is_healthy"
--- @include "lane_room"
--- @include "leasing"
--- @include "reclaim"
--- @include "round_reply"
--- @include "clock_set_back"
--- @include "usual_lane"
--- @include "waiting"
--- @include "deployments"
--- @include "worker_slots"
-- Claims the items of a lane in two steps, because a worker divides its slots among all lanes that are ready:
-- `prepare_lane` requeues the items that may run again and says how many items may start; `claim_items` claims them.
-- Defines for other files: set_worker, prepare_lane, claim_items
-- Used in each round: set_worker, prepare_lane, claim_items, worker, quarantined, claims_left, backlogs, backlog
local QUARANTINED = 2 -- a backlog of this or more has items in the quarantine
local worker, quarantined = '', 0 -- the worker's id; the number of quarantined items that it runs
local claims_left = MAX_CLAIM -- number of items that the round may still claim
local backlogs = {} -- by lane, as `prepare_lane` has found them

local function set_worker(id, quarantined_count) worker, quarantined = id, quarantined_count end

-- Returns 0 if a lane has nothing, 1 if it has queued items, QUARANTINED if it has items in the quarantine, and
-- QUARANTINED + 1 if it has both. EXISTS counts a key as often as it is named.
local function backlog(lane) return redis.call('EXISTS', FAIR_QUEUE .. lane, QUARANTINE .. lane, QUARANTINE .. lane) end

-- Moves the queues that need not wait for their scope any longer. Returns the next time at which a scope may change, or
-- nil; the number of calls that the health of the lane allows; and if this number is 0, the time at which it may
-- change.
local function look_at_health(lane)
  local blocked_ms = resume_blocked(lane)
  if not is_plain(lane) then return blocked_ms, math.huge end
  return blocked_ms, gate(lane, ACCOUNT)
end

-- Requeues the lane's items that may run again. Returns the number of items that the lane's limit allows to start now:
-- 0 if no item is queued, if this worker does not serve the lane, or if the lane is paused. For a lane that is open and
-- takes no probe now, returns 1, so that `claim_items` moves its queues.
local function prepare_lane(lane)
  local limit = lane_limit(lane)
  if not limit then return 0 end
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
      local room = room_of_lane(lane)
      if room == 0 then note_hunger(lane, limit, worker) end
      return room
    end
    -- `take_fairly` claims nothing, but moves the queues to WAITING, so that their items can give up.
    if open_record(lane, ACCOUNT) then return 1 end
    wake_at(next_ms)
  elseif not expires_ms and not due_ms and not blocked_ms then
    remove_lane(lane)
  end
  return 0
end

-- Claims up to `allowed` items of a lane, as the worker's slots and its share of the limit permit. Returns true if
-- items are left that another worker may start now.
local function claim_items(lane, allowed)
  local limit, claimed_count = lane_limit(lane), 0
  local wanted = math.min(allowed, slots_for(lane), claims_left, share_left(lane, limit, worker))
  if backlogs[lane] >= QUARANTINED and quarantined < 1 and wanted > 0 then
    local has_more
    claimed_count, has_more = lease_quarantined(lane)
    if has_more then wake_at(now_ms) end
    quarantined = quarantined + claimed_count
  end
  if wanted > claimed_count then
    local count, has_more_moves, next_ms =
      take_fairly(lane, wanted - claimed_count, INTERACTIVE_WEIGHT, allowed - claimed_count)
    claimed_count = claimed_count + count
    wake_at(next_ms)
    if has_more_moves then wake_at(now_ms) end
  end
  use_slots(lane, claimed_count)
  claims_left = claims_left - claimed_count
  if not is_usual(lane) and not is_healthy(lane) then wake_at(clock_time(earliest(BLOCKED .. lane)) or math.huge) end
  if claimed_count > 0 then
    wake_at(now_ms + LEASE_MS)
    mark_claimed(lane)
  end
  local left = allowed - claimed_count
  if left == 0 and (running[lane] or 0) >= limit or backlog(lane) == 0 then return false end
  if left == 0 then
    note_hunger(lane, limit, worker)
    return false
  end
  if claims_left <= 0 and slots_for(lane) > 0 then wake_at(now_ms) end
  return true
end
