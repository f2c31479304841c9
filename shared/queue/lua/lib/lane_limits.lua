-- Reads the first argument of settle_and_claim.lua: the lanes that the worker serves, with their limits, as
-- ' <lane>=<limit><flags> <lane>=<limit><flags> '. Flags: 'd' the limit is adaptive, 'a' the rates of the provider are
-- limited per account and not per model, 'c' the provider counts the calls that it refuses, 'o' it counts the token limit of
-- a request before the call, 'r' the lane has more rules: see limiters.lua, 'p' the lane has several deployments: see
-- deployments.lua.
-- Defines for other files: read_lane_limits, configured_limit, has_flag
local lane_limits, known_limits = '', {}

local function read_lane_limits(text) lane_limits = text end

local function find_limit(lane)
  if known_limits[lane] == nil then
    local _, name_end = string.find(lane_limits, ' ' .. lane .. '=', 1, true)
    if name_end then
      local limit, flags = string.match(lane_limits, '^(%d+)(%a*)', name_end + 1)
      known_limits[lane] = { limit = tonumber(limit), flags = flags }
    else
      known_limits[lane] = false
    end
  end
  return known_limits[lane]
end

-- Returns the configured limit of a lane, or nil if the worker does not serve the lane.
local function configured_limit(lane) return find_limit(lane) and find_limit(lane).limit end

local function has_flag(lane, flag)
  local known = find_limit(lane)
  return known and known.flags ~= '' and string.find(known.flags, flag, 1, true) ~= nil
end
