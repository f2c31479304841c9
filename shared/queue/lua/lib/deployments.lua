--- @include "lane_limits"
-- Says which deployments serve the items of a lane. A *plain* lane is a provider with one key: its deployment is the
-- account with the lane's name, with the model of the item's route. A lane with the flag 'p' is an alias, or a provider
-- with several keys. For these lanes the worker's configuration lists the deployments: account, weight, and for an
-- alias the model. An account is a key of a provider: '<provider>' for the first key, '<provider>#2' for the second.
-- Defines for other files: is_plain, provider_of, deployments_of, providers_of, lanes_of, encode_deployment,
-- served_by
local known, lanes_by_account = {}, false

local function is_plain(lane) return not has_flag(lane, 'p') end

local function provider_of(account) return string.match(account, '^[^#]+') end

-- Returns the deployments that serve a model of a lane: a list of {account, provider, weight, model (as the provider
-- gets it; '' for the item's own), scope (of the model in the account's health)}.
local function deployments_of(lane, model)
  local id = lane .. ' ' .. model
  if not known[id] then
    known[id] = {}
    for i, deployment in ipairs(configured_deployments()[lane] or {}) do
      local configured = deployment.model or ''
      known[id][i] = {
        account = deployment.account, provider = provider_of(deployment.account), weight = deployment.weight,
        model = configured,
        scope = configured == '' and model or string.lower(configured),
      }
    end
  end
  return known[id]
end

-- Returns the set of the providers that serve a lane.
local function providers_of(lane)
  if is_plain(lane) then return { [lane] = true } end
  local providers = {}
  for _, deployment in ipairs(configured_deployments()[lane] or {}) do
    providers[provider_of(deployment.account)] = true
  end
  return providers
end

-- Returns the list of the lanes that are not plain and that an account serves.
local function lanes_of(account)
  if not lanes_by_account then
    lanes_by_account = {}
    for lane, deployments in pairs(configured_deployments()) do
      for _, deployment in ipairs(deployments) do
        local lanes = lanes_by_account[deployment.account] or {}
        if lanes[#lanes] ~= lane then lanes[#lanes + 1] = lane end
        lanes_by_account[deployment.account] = lanes
      end
    end
  end
  return lanes_by_account[account] or {}
end

local function escape(text)
  return (string.gsub(text, '[|~@%%]', function(character) return string.format('%%%02X', string.byte(character)) end))
end

local function unescape(text)
  return (string.gsub(text, '%%(%x%x)', function(code) return string.char(tonumber(code, 16)) end))
end

-- Returns the part of a lease's id that names its lane and its deployment; '' for a plain lane.
local function encode_deployment(lane, deployment)
  if not deployment then return '' end
  return '|' .. lane .. '|' .. deployment.account .. '|' .. escape(deployment.scope)
end

-- Returns the lane of a lease, the account that serves it, the scope of the model there, and the provider whose limit
-- the lease uses. The id of a lease of a plain lane does not name these: the lane is `plain_lane`, which is its own
-- account and provider, and the scope is nil.
local function served_by(lease, plain_lane)
  -- The name of a limiter, after the first '~', may contain any character, because it is a model's name.
  local lane, account, scope = string.match(lease, '^[^|~]*|([^|]*)|([^|]*)|([^~]*)')
  if not lane then return plain_lane, plain_lane, nil, plain_lane end
  return lane, account, unescape(scope), provider_of(account)
end
