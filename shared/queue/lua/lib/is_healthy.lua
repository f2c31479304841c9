--- @include "usual_lane"
-- Says whether a lane or an account is healthy, so that a round for a healthy lane needs no function of
-- health_records.lua and pauses.lua.
-- Defines for other files: ACCOUNT, is_healthy, mark_unhealthy
local ACCOUNT = '' -- the scope of the account as a whole
local is_unhealthy = {} -- by lane

-- Returns whether no scope of a lane or an account has a record (see health_records.lua) and no queue waits for a scope
-- (see waiting.lua).
local function is_healthy(lane)
  if is_unhealthy[lane] == nil then
    is_unhealthy[lane] = redis.call('EXISTS', HEALTH .. lane, BLOCKED .. lane) > 0
  end
  return not is_unhealthy[lane]
end

local function mark_unhealthy(lane)
  is_unhealthy[lane] = true
  mark_unusual(lane)
end
