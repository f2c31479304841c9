#!lua flags=allow-oom
-- Sets limits of a provider or of one of its models while work runs, or removes what was set: see limiters.lua.
-- ARGV: name ('<provider>' or '<provider>/<model>'), limits as JSON (by concurrency, rpm, tpm and rpd; '' removes all
--       limits that were set for the name), ms for which all limits of the name apply ('': until they are removed)
-- Returns: the limits that were in force for the name before, as JSON, or false
--- @include "layout"
--- @include "clock"
local name, json, for_ms = unpack(ARGV)
local before = redis.call('HGET', LIMITS, name)
local limits = before and cjson.decode(before) or {}
if (limits.until_ms or math.huge) <= now_ms then before, limits = false, {} end
if json == '' then
  redis.call('HDEL', LIMITS, name)
else
  for limit, value in pairs(cjson.decode(json)) do limits[limit] = value end
  limits.until_ms = for_ms ~= '' and math.floor(now_ms + for_ms) or nil
  redis.call('HSET', LIMITS, name, cjson.encode(limits))
end
redis.call('PUBLISH', WAKE, '') -- a higher limit can be used now
return before
