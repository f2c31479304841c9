--- @include "deployments"
--- @include "is_healthy"
--- @include "health_records"
--- @include "deployment_choice"
-- Says whether the deployments that serve a model of a lane take calls.
-- Defines for other files: blocking_scope

-- Returns the scope that blocks the calls of a model now, and the time at which this may change. If no scope blocks
-- them, returns nil and the number of items that may be claimed.
local function blocking_scope(lane, model)
  if not is_plain(lane) then
    local allowed, next_ms = deployments_gate(lane, model)
    if allowed == 0 then return model, next_ms end
    return nil, allowed
  end
  if is_healthy(lane) then return nil, math.huge end
  local allowed, next_ms = gate(lane, ACCOUNT)
  if allowed == 0 then return ACCOUNT, next_ms end
  local of_model, model_next_ms = gate(lane, model or ACCOUNT)
  if of_model == 0 then return model, model_next_ms end
  return nil, math.min(allowed, of_model)
end
