--- @include "deployments"
--- @include "health_records"
--- @include "is_healthy"
--- @include "limits_in_force"
--- @include "limiters"
-- Chooses the deployment that serves the next items of a model, by weighted least service: SERVED has the number of
-- items that each deployment got, divided by its weight. While a deployment cannot take items, its number is raised to
-- the least number of the others, so that it gets no more than its share when it can take items again.
-- Defines for other files: deployments_gate, deployments_record, choose
local KEPT_SERVED_MS = 86400000

-- Returns the same as `gate`, for the deployments that serve a model.
local function deployments_gate(lane, model)
  local highest, next_ms = 0, math.huge
  for _, deployment in ipairs(deployments_of(lane, model)) do
    local allowed, at_ms = gate(deployment.account, ACCOUNT)
    local of_model, model_at_ms = gate(deployment.account, deployment.scope)
    highest = math.max(highest, math.min(allowed, of_model))
    next_ms = math.min(next_ms, math.max(at_ms or 0, model_at_ms or 0))
  end
  return highest, highest == 0 and next_ms or nil
end

-- Returns the record of the deployment that opened last, if all deployments of a model are open, or nil.
local function deployments_record(lane, model)
  local latest
  for _, deployment in ipairs(deployments_of(lane, model)) do
    local record = open_record(deployment.account, ACCOUNT) or open_record(deployment.account, deployment.scope)
    if not record then return nil end
    if not latest or record.opened_ms > latest.opened_ms then latest = record end
  end
  return latest
end

-- Returns how many items a deployment can take now. If a limiter allows none, also returns when that may change.
local function room_of(deployment, tokens_of)
  local limit = effective_limit(deployment.provider)
  if not limit then return 0 end
  local room = math.min(limit - redis.call('ZCARD', LEASES .. deployment.provider), gate(deployment.account, ACCOUNT),
    (gate(deployment.account, deployment.scope)))
  if room <= 0 then return 0 end
  local allowed, at_ms = limiters_room(deployment.account, limiters_of(deployment.account, deployment.scope), tokens_of)
  return math.min(room, allowed), at_ms
end

-- Returns the deployment for the next items of a model, how many items it may get, and a function that the caller must
-- call with the number of items that it got. If no deployment can take an item, returns nil and the time at which one
-- of them may take an item (math.huge if unknown). `tokens_of`: see `limiters_room`.
local function choose(lane, model, tokens_of)
  local served, chosen, least, next_ms = SERVED .. lane .. ':' .. model, nil, nil, math.huge
  local others = {}
  for _, deployment in ipairs(deployments_of(lane, model)) do
    local room, at_ms = room_of(deployment, tokens_of)
    local name = deployment.account .. '/' .. deployment.scope
    local service = tonumber(redis.call('ZSCORE', served, name) or 0)
    if room == 0 then
      next_ms = math.min(next_ms, at_ms or math.huge)
      others[#others + 1] = { name = name, service = service }
    elseif not least or service < least then
      chosen, least = { deployment = deployment, name = name, room = room }, service
    end
  end
  if not chosen then return nil, next_ms end
  for _, other in ipairs(others) do
    if other.service < least then redis.call('ZADD', served, least, other.name) end
  end
  local deployment = chosen.deployment
  local count = math.min(chosen.room, deployment.weight)
  return deployment, count, function(taken)
    redis.call('ZADD', served, least + taken / deployment.weight, chosen.name)
    redis.call('PEXPIRE', served, KEPT_SERVED_MS)
  end
end
