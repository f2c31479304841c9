--- @include "clock"
--- @include "job_cache"
--- @include "lane_limits"
--- @include "deployments"
--- @include "stored_limits"
--- @include "adaptive"
-- Limits the calls of a lane's models, and the rates of requests and tokens. A *limiter* has a name in its lane: '' limits
-- all models of the lane, another name limits one model, or the models that match a pattern.
-- The limits come from, the first that sets a limit counts: LIMITS (set while work runs), the rules of the worker's
-- configuration, LEARNED (announced by the provider). LIMITS and LEARNED have limits as JSON by '<lane>' or
-- '<lane>/<model>': concurrency, rpm, tpm, rpd, and until_ms if they end.
-- Rates are kept by GCRA (ITU-T I.371): per dimension one time, at which all charges so far will have been repaid (the
-- theoretical arrival time). A rate that the provider announced may be used up at once, as long as the provider says that
-- some of it is left; any other rate is spread evenly, because providers judge rates in slices of a second or less.
-- If a limit has changed, what was charged takes as long as under the new limit.
-- A claim charges, time repays, so nothing can leak. Tokens are charged as an estimate, and the
-- settlement corrects the charge. BUDGET has the times; RUNNING has the leases of a limiter, with the tokens that were
-- charged for each.
-- Tokens are estimated as bytes × a ratio that is learned from the answers of the job, plus the mean of its answers' tokens.
-- A charge is this mean: with a higher one, the provider's bucket would be full while a call runs, and the tokens that do
-- not fit into the bucket are lost. A call begins when the bucket surely holds what the provider counts before the call:
-- the mean and its mean deviation.
-- Defines for other files: LIMITER, set_rules, highest_limit, effective_limit, limiters_of, limiter_room, limiters_room,
-- estimate_tokens, suffix_of, charge, release, learn
local LIMITER = 'limit:' -- the queues that wait for a limiter wait for a scope of this, and the limiter's name
local MINUTE_MS, DAY_MS = 60000, 86400000
local RATES, PERIOD_MS, FIELD = { 'rpm', 'tpm', 'rpd' }, { rpm = MINUTE_MS, tpm = MINUTE_MS, rpd = DAY_MS },
  { rpm = 'r', tpm = 't', rpd = 'd' }
-- The longest time that charges may take to be repaid. After a set-back of the clock, they would take longer: see
-- set_back.lua.
local MAX_AHEAD_MS = { rpm = 2 * MINUTE_MS, tpm = 10 * MINUTE_MS, rpd = DAY_MS }
local LATE_MS = 50 -- a call may be this early, because rounds are late
local KEPT_BUDGET_MS = 2 * DAY_MS
local FIRST_ESTIMATE = { ratio = 0.5, ratio_dev = 0, output = 256, output_dev = 0 }
local SURE = 0.8 -- part of the largest request so far that the provider's bucket surely holds, as far as estimates tell
local WEIGHT = 0.2 -- of the newest answer in the means
local MAX_LEARNED = 1000 -- models per deployment whose limits are learned
local rules_json, rules = '', nil
local known_limiters, budgets = {}, {}

local function set_rules(json) rules_json = json end

local function rules_of(lane)
  if not has_flag(provider_of(lane), 'r') then return nil end
  rules = rules or cjson.decode(rules_json)
  return rules[provider_of(lane)]
end

-- Returns the limit of running calls of a provider, without what is adapted; nil if the worker does not serve the provider.
local function highest_limit(provider)
  local configured = configured_limit(provider)
  return configured and (stored_limits(LIMITS, provider).concurrency or configured)
end

-- Returns the limit of running calls of a provider that is in force, or nil if the worker does not serve the provider.
local function effective_limit(provider)
  local limit = highest_limit(provider)
  return limit and math.min(limit, cap_of(provider))
end

local function model_rule(rule, route)
  for _, model in ipairs(rule and rule.models or {}) do
    if model.name == route then return model end
  end
  for _, model in ipairs(rule and rule.models or {}) do
    if model.pattern and string.find(route, model.pattern) then return model end
  end
  return {}
end

-- Returns the limiters of a route: a list of {name, concurrency, rpm, tpm, rpd, learned (the rates that the provider has
-- announced)}.
local function limiters_of(lane, route)
  local id = lane .. ' ' .. route
  if known_limiters[id] then return known_limiters[id] end
  local rule, of_lane, of_model = rules_of(lane), stored_limits(LIMITS, provider_of(lane)), stored_limits(LIMITS, provider_of(lane) .. '/' .. route)
  local model, learned = model_rule(rule, route), stored_limits(LEARNED, lane .. '/' .. route)
  local list = {}
  local function add(limiter, has_announced)
    limiter.learned = {}
    for _, rate in ipairs(RATES) do
      limiter.learned[rate] = has_announced and not limiter[rate]
      limiter[rate] = limiter[rate] or has_announced and learned[rate]
    end
    limiter.has_rate = limiter.rpm or limiter.tpm or limiter.rpd
    if limiter.concurrency or limiter.has_rate then list[#list + 1] = limiter end
  end
  local all = { name = '' }
  for _, rate in ipairs(RATES) do all[rate] = of_lane[rate] or rule and rule[rate] end
  local own = { name = not next(of_model) and model.name or route, concurrency = of_model.concurrency or model.concurrency }
  local is_per_account = has_flag(provider_of(lane), 'a')
  for _, rate in ipairs(RATES) do
    own[rate] = of_model[rate] or model[rate] or not is_per_account and all[rate] or nil
  end
  if is_per_account then add(all, true) end
  add(own, not is_per_account)
  known_limiters[id] = list
  return list
end

local function save_budget(lane, limiter)
  local id = lane .. ':' .. limiter.name
  local budget = budgets[id]
  local fields = { 'largest', budget.largest }
  for _, rate in ipairs(RATES) do
    if limiter[rate] then
      fields[#fields + 1], fields[#fields + 2] = FIELD[rate], ms(budget[FIELD[rate]])
      fields[#fields + 1], fields[#fields + 2] = rate, limiter[rate]
    end
  end
  redis.call('HSET', BUDGET .. id, unpack(fields))
  redis.call('PEXPIRE', BUDGET .. id, KEPT_BUDGET_MS)
end

local function budget_of(lane, limiter)
  local id = lane .. ':' .. limiter.name
  if not budgets[id] then
    local r, t, d, rpm, tpm, rpd, largest =
      unpack(redis.call('HMGET', BUDGET .. id, 'r', 't', 'd', 'rpm', 'tpm', 'rpd', 'largest'))
    local budget, charged_at = { largest = tonumber(largest) or 0 }, { rpm = rpm, tpm = tpm, rpd = rpd }
    local times, has_changed = { r = r, t = t, d = d }, false
    for _, rate in ipairs(RATES) do
      local time, limit, old_limit = tonumber(times[FIELD[rate]]) or 0, limiter[rate], tonumber(charged_at[rate])
      if limit and time > now_ms then
        local ahead_ms, longest_ms = time - now_ms, MAX_AHEAD_MS[rate]
        if old_limit and old_limit ~= limit then ahead_ms = ahead_ms * old_limit / limit end
        if rate == 'tpm' then longest_ms = math.max(longest_ms, 2 * budget.largest * MINUTE_MS / limit) end
        ahead_ms = math.min(ahead_ms, longest_ms)
        if now_ms + ahead_ms < time or old_limit ~= limit then time, has_changed = now_ms + ahead_ms, true end
      end
      budget[FIELD[rate]] = time
    end
    budgets[id] = budget
    if has_changed then save_budget(lane, limiter) end
  end
  return budgets[id]
end

-- Returns how much may be owed when the next call begins, in ms.
local function early_ms(limiter, rate, budget, tokens)
  local cost_ms = PERIOD_MS[rate] / limiter[rate]
  if limiter.learned[rate] or rate == 'rpd' then return PERIOD_MS[rate] - (rate == 'tpm' and tokens or 1) * cost_ms end
  if rate == 'rpm' then return math.max(cost_ms / 2, LATE_MS) end
  -- The provider's bucket holds at least the largest request so far, so a smaller one may run while some tokens are owed.
  return math.max(LATE_MS, (budget.largest * SURE - tokens) * cost_ms)
end

-- Returns how many items a limiter allows now; if none, also when it may allow one, or nil if a call has to end first.
-- `tokens` is the estimate for the next item; with a token limit at most one item is allowed at a time.
local function limiter_room(lane, limiter, tokens)
  local room, next_ms = math.huge, nil
  if limiter.concurrency then
    room = limiter.concurrency - redis.call('HLEN', RUNNING .. lane .. ':' .. limiter.name)
    if room <= 0 then return 0, nil end
  end
  local budget = limiter.has_rate and budget_of(lane, limiter)
  for _, rate in ipairs(budget and RATES or {}) do
    if limiter[rate] then
      local time, latest_ms = budget[FIELD[rate]], now_ms + math.max(0, early_ms(limiter, rate, budget, tokens))
      if time > latest_ms then
        room, next_ms = 0, math.max(next_ms or 0, now_ms + time - latest_ms)
      else
        local calls = math.floor((latest_ms - math.max(time, now_ms)) * limiter[rate] / PERIOD_MS[rate]) + 1
        room = math.min(room, rate == 'tpm' and 1 or calls)
      end
    end
  end
  return room, next_ms
end

-- Returns how many items all limiters of a list allow now; if none, also when that may change (see limiter_room), and the
-- limiter that allows none. `tokens_of` returns an upper estimate of the next item's tokens for an account.
local function limiters_room(account, list, tokens_of)
  local room = math.huge
  for _, limiter in ipairs(list) do
    local allowed, at_ms = limiter_room(account, limiter, limiter.tpm and tokens_of(account) or 0)
    if allowed == 0 then return 0, at_ms, limiter end
    room = math.min(room, allowed)
  end
  return room
end

local function estimate_of(job)
  if not job.estimate then
    local text = redis.call('HGET', JOB .. job.id, 'tokens')
    job.estimate = text and cjson.decode(text) or FIRST_ESTIMATE
  end
  return job.estimate
end

-- Returns an estimate of the tokens that the provider counts for an item, and an upper estimate of the tokens that it
-- counts before the call. `lane`: the name of the account.
local function estimate_tokens(lane, job, index)
  local bytes, known = redis.call('HSTRLEN', PAYLOADS .. job.id, index), estimate_of(job)
  local before = bytes * (known.ratio + known.ratio_dev)
  if has_flag(provider_of(lane), 'o') then before = before + known.output + known.output_dev end
  return bytes * known.ratio + known.output, before
end

-- Learns from an answer how many tokens the job's items have.
local function learn_tokens(job, index, prompt_tokens, output_tokens)
  local bytes = redis.call('HSTRLEN', PAYLOADS .. job.id, index)
  if bytes == 0 or not job.is_unfinished then return end
  local known, ratio = estimate_of(job), prompt_tokens / bytes
  if known == FIRST_ESTIMATE then
    job.estimate = { ratio = ratio, ratio_dev = ratio / 4, output = output_tokens, output_dev = output_tokens / 4 }
  else
    local function mean(old, new) return old + WEIGHT * (new - old) end
    job.estimate = {
      ratio = mean(known.ratio, ratio), ratio_dev = mean(known.ratio_dev, math.abs(ratio - known.ratio)),
      output = mean(known.output, output_tokens), output_dev = mean(known.output_dev, math.abs(output_tokens - known.output)),
    }
  end
  redis.call('HSET', JOB .. job.id, 'tokens', cjson.encode(job.estimate))
end

-- Returns the end of the lease of an item that is under these limiters: it says which they are.
local function suffix_of(list)
  if #list == 0 then return '' end
  local suffix = '~' .. (list[1].name == '' and 'a' or '-')
  return list[#list].name == '' and suffix or suffix .. list[#list].name
end

-- Charges a limiter for a lease.
local function charge(lane, limiter, lease, tokens)
  redis.call('HSET', RUNNING .. lane .. ':' .. limiter.name, lease, limiter.tpm and tokens or 0)
  if not limiter.has_rate then return end
  local budget = budget_of(lane, limiter)
  local function add(field, cost_ms) budget[field] = math.max(budget[field], now_ms) + cost_ms end
  for _, rate in ipairs(RATES) do
    if limiter[rate] then add(FIELD[rate], (rate == 'tpm' and tokens or 1) * PERIOD_MS[rate] / limiter[rate]) end
  end
  save_budget(lane, limiter)
end

-- Corrects the charges of a call that has ended. `usage` has prompt_tokens and output_tokens as the provider counts them, or
-- is nil. `is_refused`: the provider refused the call because of a rate limit.
local function correct(lane, limiter, charged, usage, is_refused)
  if not limiter.has_rate then return end
  local budget = budget_of(lane, limiter)
  if is_refused and not has_flag(provider_of(lane), 'c') then
    if limiter.rpm then budget.r = budget.r - MINUTE_MS / limiter.rpm end
    if limiter.rpd then budget.d = budget.d - DAY_MS / limiter.rpd end
  end
  if limiter.tpm and (usage or is_refused) then
    local real = usage and usage.prompt_tokens + usage.output_tokens or 0
    local before = usage and (has_flag(provider_of(lane), 'o') and real or usage.prompt_tokens) or 0
    budget.largest = math.max(budget.largest, before)
    budget.t = budget.t + (real - charged) * MINUTE_MS / limiter.tpm
  end
  save_budget(lane, limiter)
end

-- Ends a lease's use of its limiters: see `suffix_of`. Without `fault` and `usage`, the charges stay: they are repaid by time.
local function release(lane, route, lease, job, index, usage, is_refused)
  local account, name = string.match(lease, '~([a-])(.*)$')
  if not account then return end
  local charges = {}
  for _, of in ipairs({ account == 'a' and '' or false, name ~= '' and name or false }) do
    if of then
      local key = RUNNING .. lane .. ':' .. of
      charges[of] = tonumber(redis.call('HGET', key, lease) or 0)
      redis.call('HDEL', key, lease)
      redis.call('ZADD', BLOCKED .. lane, 'XX', 0, LIMITER .. of)
    end
  end
  for _, limiter in ipairs((usage or is_refused) and limiters_of(lane, route) or {}) do
    if charges[limiter.name] then correct(lane, limiter, charges[limiter.name], usage, is_refused) end
  end
  if usage then learn_tokens(job, index, usage.prompt_tokens, usage.output_tokens) end
end

-- Stores the limits that a provider announced in the headers of a response: per rate the limit and what is left of it.
-- `left` only ever delays calls: others may use the same account.
local function learn(lane, route, announced)
  local name = lane .. '/' .. route
  if redis.call('HLEN', LEARNED) >= MAX_LEARNED and redis.call('HEXISTS', LEARNED, name) == 0 then return end
  local limits = {}
  for rate, limit in pairs(announced) do limits[rate] = limit.limit end
  limits.until_ms = now_ms + DAY_MS
  remember_limits(LEARNED, name, limits)
  known_limiters[lane .. ' ' .. route] = nil
  for _, limiter in ipairs(limiters_of(lane, route)) do
    for rate, limit in pairs(announced) do
      if limiter[rate] and limit.left then
        local budget, owed_ms = budget_of(lane, limiter), (limit.limit - limit.left) * PERIOD_MS[rate] / limit.limit
        if not limiter.learned[rate] then owed_ms = limit.left < 1 and PERIOD_MS[rate] / limit.limit or 0 end
        budget[FIELD[rate]] = math.max(budget[FIELD[rate]], now_ms + owed_ms)
        save_budget(lane, limiter)
      end
    end
  end
end
