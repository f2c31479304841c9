--- @include "clock"
-- Keeps ACTIVE_LANES, the index of the lanes that have items, so that idle lanes cost nothing.
-- Invariant: a lane with an item in QUEUE, QUARANTINE, DEFERRED or LEASES is in the index. An item enters a lane
-- through `enqueue`, which adds the lane, also if the item moves on to another lane: see fallbacks.lua. A lease enters
-- the lane of its provider through leasing.lua, which adds this lane. Only settle_and_claim.lua removes a lane, in the
-- same step in which it finds that these four keys are empty.
-- The score orders the lanes by their last claim. A lane that has become active is first.
-- Defines for other files: add_lane, remove_lane, mark_claimed, active_lanes, some_lanes
-- Used in each round: some_lanes, active_lanes, mark_claimed, latest_lane, latest_claim
local MAX_LANES = 100 -- limit of the lanes that a round looks at
local latest_lane, latest_claim = '', 0 -- the last entry of the index, and its score

local function add_lane(lane) redis.call('ZADD', ACTIVE_LANES, 'NX', 0, lane) end

local function remove_lane(lane) redis.call('ZREM', ACTIVE_LANES, lane) end

-- Returns the active lanes, in their order.
local function active_lanes()
  local entries, lanes = redis.call('ZRANGE', ACTIVE_LANES, 0, -1, 'WITHSCORES'), {}
  for i = 1, #entries, 2 do lanes[#lanes + 1] = entries[i] end
  latest_lane, latest_claim = lanes[#lanes], tonumber(entries[#entries] or 0)
  return lanes
end

-- Returns up to MAX_LANES active lanes, and whether these are all. If there are more, one half of the returned lanes
-- has waited longest for a claim. The time of the round decides which lanes are the other half, so that each lane has
-- its turn.
local function some_lanes()
  local lanes = active_lanes()
  if #lanes <= MAX_LANES then return lanes, true end
  local some, first = {}, MAX_LANES / 2
  for i = 1, first do some[i] = lanes[i] end
  local others = #lanes - first
  local start = math.floor(now_ms * 1000) % others
  for i = 0, MAX_LANES - first - 1 do some[#some + 1] = lanes[first + 1 + (start + i) % others] end
  return some, false
end

-- Moves a lane to the end of the order, after the caller has called `active_lanes`.
local function mark_claimed(lane)
  if lane == latest_lane and latest_claim > 0 then return end -- the lane is at the end
  latest_lane, latest_claim = lane, latest_claim + 1
  redis.call('ZADD', ACTIVE_LANES, latest_claim, lane)
end
