--- @include "clock"
-- Reads the limits in Redis. LIMITS (set while work runs) and LEARNED (announced by the provider) have limits as JSON,
-- CAPS has the state of adaptive_limit.lua.
-- Defines for other files: has_stored_limits, stored_limits, remember_limits
local stored, has_any = {}, 'unknown'

local function has_stored_limits()
  if has_any == 'unknown' then has_any = redis.call('EXISTS', LIMITS, LEARNED, CAPS) > 0 end
  return has_any
end

-- Returns the limits that LIMITS or LEARNED has for a name; an empty table if there are none, or if they have ended.
local function stored_limits(key, name)
  if not has_stored_limits() then return {} end
  local id = key .. name
  if not stored[id] then
    local json = redis.call('HGET', key, name)
    stored[id] = json and cjson.decode(json) or {}
    if (stored[id].until_ms or math.huge) <= now_ms then
      redis.call('HDEL', key, name)
      stored[id] = {}
    end
  end
  return stored[id]
end

-- Stores limits, so that `stored_limits` returns them.
local function remember_limits(key, name, limits)
  redis.call('HSET', key, name, cjson.encode(limits))
  has_any, stored[key .. name] = true, limits
end
