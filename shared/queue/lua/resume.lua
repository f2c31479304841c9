#!lua flags=allow-oom
-- Ends the pauses of a lane, or of one of its scopes, because a person says so: see health.lua. A paused scope becomes
-- healthy. An open scope stays open, and its next probe may run now; if the probe fails, the waits begin again with the
-- shortest.
-- ARGV: lane, scope (all scopes of the lane if it is left out)
-- Returns: the scopes that were not healthy
--- @include "clock"
--- @include "health"
local lane, scopes, resumed = ARGV[1], { ARGV[2] }, {}
if not ARGV[2] then scopes = redis.call('HKEYS', HEALTH .. lane) end
for _, scope in ipairs(scopes) do
  local record = read_record(lane, scope)
  if record and (record.opened_ms or record.until_ms > now_ms) then resumed[#resumed + 1] = scope end
  if record and record.opened_ms then
    record.until_ms, record.pause_ms, record.probe_ms = now_ms, 0, 0
    store_record(lane, scope, record)
    redis.call('ZADD', BLOCKED .. lane, 'XX', 0, scope)
  elseif record then
    delete_record(lane, scope)
  end
end
redis.call('PUBLISH', WAKE, '')
return resumed
