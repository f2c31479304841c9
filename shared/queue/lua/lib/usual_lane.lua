--- @include "lane_limits"
-- Says whether a lane is *usual*: healthy, served by one account, and limited only by a fixed number of running calls.
-- For such a lane, a round needs no function of the files about pauses, deployments and other limits. If Redis has any
-- entry in LIMITS, LEARNED or CAPS, no lane is usual.
-- Defines for other files: is_usual, mark_unusual
-- Used in each round: is_usual, usual
local UNUSUAL_FLAGS = '[dpr]' -- see lane_limits.lua
local usual = {} -- by lane

local function is_usual(lane)
  if usual[lane] == nil then
    local flags = flags_of(lane)
    usual[lane] = (flags == '' or not string.find(flags, UNUSUAL_FLAGS))
      and redis.call('EXISTS', HEALTH .. lane, BLOCKED .. lane, LIMITS, LEARNED, CAPS) == 0
  end
  return usual[lane]
end

-- Must be called before this round stores one of the keys that `is_usual` checks.
local function mark_unusual(lane) usual[lane] = false end
