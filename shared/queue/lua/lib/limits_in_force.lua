--- @include "lane_limits"
--- @include "deployments"
--- @include "stored_limits"
--- @include "adaptive_limit"
-- Says which limits are in force. A *limiter* has a name in its account: '' limits all models of the account, another
-- name limits one model, or the models that match a pattern. A limit that was set for one model while work runs
-- replaces the same limit of the pattern; the model still shares the other limits of the pattern.
-- Limits come from LIMITS (set while work runs), from the rules of the worker's configuration, and from LEARNED
-- (announced by the provider). The first of these that has a limit decides. LIMITS and LEARNED are hashes with limits
-- as JSON: concurrency, rpm, tpm, rpd, and until_ms if the limits end. The fields of LIMITS are '<provider>' or
-- '<provider>/<model>', the fields of LEARNED are '<account>/<model>'.
-- Defines for other files: LIMITER, RATES, highest_limit, effective_limit, limiters_of, forget_limiters, suffix_of,
-- limiter_names
local LIMITER = 'limit:' -- queues that wait for a limiter wait for the scope 'limit:<name of the limiter>'
local RATES, NONE = { 'rpm', 'tpm', 'rpd' }, {}
-- Separates the limiters' names in a lease. The names of models do not contain it: see fallback_chain.py.
local SEPARATOR = '\31'
local known_limiters = {}

local function rules_of(account)
  if not has_flag(provider_of(account), 'r') then return nil end
  return configured_rules()[provider_of(account)]
end

-- Returns the limit of running calls of a provider without its cap (see adaptive_limit.lua), or nil if the worker does
-- not serve the provider.
local function highest_limit(provider)
  local configured = configured_limit(provider)
  return configured and (stored_limits(LIMITS, provider).concurrency or configured)
end

-- Returns the limit of running calls of a provider that is in force, or nil if the worker does not serve the provider.
local function effective_limit(provider)
  local limit = highest_limit(provider)
  return limit and math.min(limit, cap_of(provider))
end

local function model_rule(rule, name)
  for _, model in ipairs(rule and rule.models or {}) do
    if model.name == name then return model end
  end
  for _, model in ipairs(rule and rule.models or {}) do
    if model.pattern and string.find(name, model.pattern) then return model end
  end
  return {}
end

-- Returns the limiters of an account's model: a list of {name, concurrency, rpm, tpm, rpd, learned (the rates that the
-- provider has announced)}.
local function limiters_of(account, model)
  local id = account .. ' ' .. model
  if known_limiters[id] then return known_limiters[id] end
  if not has_flag(provider_of(account), 'r') and not has_stored_limits() then return NONE end
  local provider = provider_of(account)
  local rule = rules_of(account)
  local of_all, of_model = stored_limits(LIMITS, provider), stored_limits(LIMITS, provider .. '/' .. model)
  local rule_of_model, learned = model_rule(rule, model), stored_limits(LEARNED, account .. '/' .. model)
  local list = {}
  local function add(limiter, has_announced, replaced)
    limiter.learned = {}
    for _, rate in ipairs(RATES) do
      limiter.learned[rate] = has_announced and not limiter[rate] and not (replaced and replaced[rate])
      limiter[rate] = limiter[rate] or limiter.learned[rate] and learned[rate]
    end
    limiter.has_rate = limiter.rpm or limiter.tpm or limiter.rpd
    if limiter.concurrency or limiter.has_rate then list[#list + 1] = limiter end
  end
  local all = { name = '' }
  for _, rate in ipairs(RATES) do all[rate] = of_all[rate] or rule and rule[rate] end
  local of_pattern = rule_of_model.pattern and stored_limits(LIMITS, provider .. '/' .. rule_of_model.name) or {}
  local concurrency = of_model.concurrency or of_pattern.concurrency or rule_of_model.concurrency
  local own = { name = rule_of_model.name or model, concurrency = concurrency }
  local is_per_account = has_flag(provider, 'a')
  for _, rate in ipairs(RATES) do
    own[rate] = of_model[rate] or of_pattern[rate] or rule_of_model[rate] or not is_per_account and all[rate] or nil
  end
  if is_per_account then add(all, true) end
  if rule_of_model.pattern and next(of_model) then
    local of_one = { name = model, concurrency = of_model.concurrency }
    if of_one.concurrency then own.concurrency = nil end
    for _, rate in ipairs(RATES) do
      of_one[rate] = of_model[rate]
      if of_one[rate] then own[rate] = nil end
    end
    add(own, not is_per_account, of_one)
    add(of_one)
  else
    add(own, not is_per_account)
  end
  known_limiters[id] = list
  return list
end

-- Forgets the limiters of a model, after a limit has been learned.
local function forget_limiters(account, model) known_limiters[account .. ' ' .. model] = nil end

-- Returns the suffix of a lease that names the limiters of the lease's item.
local function suffix_of(list)
  if #list == 0 then return '' end
  local names, has_account = {}, list[1].name == ''
  for i = has_account and 2 or 1, #list do names[#names + 1] = list[i].name end
  return '~' .. (has_account and 'a' or '-') .. table.concat(names, SEPARATOR)
end

-- Returns the names of the limiters in a lease, or nil: see `suffix_of`.
local function limiter_names(lease)
  local account, rest = string.match(lease, '~([a-])(.*)$')
  if not account then return nil end
  local names = account == 'a' and { '' } or {}
  for name in string.gmatch(rest, '[^' .. SEPARATOR .. ']+') do names[#names + 1] = name end
  return names
end
