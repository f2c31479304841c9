--- @include "deployments"
--- @include "is_healthy"
--- @include "health_records"
--- @include "deployment_choice"
-- Says whether the provider or the deployments of a route take calls.
-- Defines for other files: blocking_scope

-- Returns the scope that blocks the calls of a route now, and the time at which this may change. If no scope blocks
-- them, returns nil and the number of items that may be claimed.
local function blocking_scope(lane, route)
  if not is_plain(lane) then
    local allowed, next_ms = route_gate(lane, route)
    if allowed == 0 then return route, next_ms end
    return nil, allowed
  end
  if is_healthy(lane) then return nil, math.huge end
  local allowed, next_ms = gate(lane, ACCOUNT)
  if allowed == 0 then return ACCOUNT, next_ms end
  local of_route, route_next_ms = gate(lane, route or ACCOUNT)
  if of_route == 0 then return route, route_next_ms end
  return nil, math.min(allowed, of_route)
end
