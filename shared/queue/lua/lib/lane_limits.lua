-- Keeps the arguments of settle_and_claim.lua that say what the worker serves. `limits` has the lanes and their limits,
-- as ' <lane>=<limit><flags> <lane>=<limit><flags> '. Flags: 'd' the limit is adaptive, 'a' the rates of the provider
-- are limited per account and not per model, 'c' the provider counts the calls that it refuses, 'o' the provider counts
-- a request's limit of output tokens when the call starts, 'r' the lane has more rules (see limiters.lua), 'p' the lane
-- is an alias or a provider with several keys (see deployments.lua).
-- Defines for other files: set_configuration, configured_limit, configured_rules, configured_deployments, flags_of,
-- has_flag
-- Used in each round: set_configuration, configured_limit, flags_of, limits, rules, deployments, known_limits,
-- find_limit
local limits, rules, deployments = '', '', '' -- the last two are tables after they were decoded
local known_limits = {}

local function set_configuration(...) limits, rules, deployments = ... end

local function decoded(json) return json == '' and {} or cjson.decode(json) end

-- Returns the further limits by provider: see limiters.lua.
local function configured_rules()
  if type(rules) == 'string' then rules = decoded(rules) end
  return rules
end

-- Returns the deployments by lane, for the lanes that are not plain: see deployments.lua.
local function configured_deployments()
  if type(deployments) == 'string' then deployments = decoded(deployments) end
  return deployments
end

local function find_limit(lane)
  if known_limits[lane] == nil then
    local _, name_end = string.find(limits, ' ' .. lane .. '=', 1, true)
    if name_end then
      local limit, flags = string.match(limits, '^(%d+)(%a*)', name_end + 1)
      known_limits[lane] = { limit = tonumber(limit), flags = flags }
    else
      known_limits[lane] = false
    end
  end
  return known_limits[lane]
end

-- Returns the configured limit of a lane, or nil if the worker does not serve the lane.
local function configured_limit(lane)
  local known = find_limit(lane)
  return known and known.limit or nil
end

-- Returns the flags of a lane; '' if the worker does not serve the lane.
local function flags_of(lane)
  local known = find_limit(lane)
  return known and known.flags or ''
end

local function has_flag(lane, flag) return string.find(flags_of(lane), flag, 1, true) ~= nil end
