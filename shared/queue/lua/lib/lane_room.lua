--- @include "lane_limits"
--- @include "usual_lane"
--- @include "limits_in_force"
--- @include "deployments"
-- Says how many calls may run in a lane, and how many more may start.
-- Defines for other files: lane_limit, room_of_lane
-- Used in each round: lane_limit, room_of_lane

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
