#!lua flags=allow-oom
-- Ends the pauses of a lane, or of one of its scopes, because a person says so: see health.lua. All keys of a
-- provider are meant: see deployments.lua. A paused scope becomes
-- healthy. An open scope stays open, and its next probe may run now; if the probe fails, the waits begin again with the
-- shortest.
-- ARGV: lane, scope (all scopes of the lane if it is left out)
-- Returns: the scopes that were not healthy
--- @include "clock"
--- @include "health"
local lane, only, resumed = ARGV[1], ARGV[2], {}

local function resume_scope(account, scope)
  local record = read_record(account, scope)
  if record and (record.opened_ms or record.until_ms > now_ms) then resumed[#resumed + 1] = scope end
  if record and record.opened_ms then
    record.until_ms, record.pause_ms, record.probe_ms = now_ms, 0, 0
    store_record(account, scope, record)
    redis.call('ZADD', BLOCKED .. account, 'XX', 0, scope)
  elseif record then
    delete_record(account, scope)
  end
end

for number = 1, MAX_KEYS do
  local account = number == 1 and lane or lane .. '#' .. number
  for _, scope in ipairs(only and { only } or redis.call('HKEYS', HEALTH .. account)) do resume_scope(account, scope) end
end
-- Lanes with several deployments may wait for this provider.
for _, other in ipairs(redis.call('ZRANGE', ACTIVE_LANES, 0, -1)) do
  for _, scope in ipairs(redis.call('ZRANGE', BLOCKED .. other, 0, 99)) do redis.call('ZADD', BLOCKED .. other, 0, scope) end
end
redis.call('PUBLISH', WAKE, '')
return resumed
