--- @include "clock"
--- @include "lane_limits"
--- @include "deployments"
--- @include "stored_limits"
--- @include "limits_in_force"
--- @include "token_estimates"
--- @include "budgets"
-- Keeps the limiters of limits_in_force.lua: limits the running calls of an account's models, and the rates of requests
-- and tokens. A rate that the provider announced may be used up in one burst, as long as the provider says that a part
-- of the rate is left; any other rate is spread evenly, because providers judge rates in slices of a second or less.
-- A claim charges the budgets (see budgets.lua), and time repays the charges, so no charge stays forever. Tokens are
-- charged as an estimate of token_estimates.lua, and the settlement corrects the charge. RUNNING has the leases of a
-- limiter, with three numbers for each lease: all tokens that were charged, the tokens that the provider counts before
-- the call, and the square of the error of this second number.
-- A charge is not higher than the estimate. With a higher charge, the provider's bucket would be full while a call
-- runs, and the tokens that do not fit into the bucket would be lost. No provider announces how large its bucket is.
-- The bucket holds at least the largest request so far. It is charged at the start of a call with the tokens that the
-- provider counts before the call, and at the end with the tokens of the answer, which claims know only after the
-- settlement. So a call begins when a bucket of this size would hold the call's tokens if all running calls had just
-- been answered. A call also begins when the bucket is full, because further tokens would be lost.
-- After a provider has refused a call, a token limit is *strict* for an hour: the bucket is taken to be no larger than
-- the largest request, and calls also keep a margin for the errors of estimates.
-- Defines for other files: limiter_room, limiters_room, estimate_tokens, charge, release, learn
local LATE_MS = 50 -- a call may begin this much early, because rounds are late
local STRICT_MS = 3600000
local RESERVED_MS = 1000 -- limit of what may be owed for the answers of running calls
local MAX_MARGIN = 0.5 -- part of the smallest bucket that a strict limit may keep free because of errors of estimates
local TRUST = 0.3 -- part of the smallest bucket by which the bucket is taken to be larger, unless a limit is strict
local MAX_LEARNED = 1000 -- models per deployment whose limits are learned

local function is_strict(budget) return now_ms - budget.refused < STRICT_MS end

-- Returns the time at which a call may begin under a token limit. `tokens` and `square`: see `estimate_tokens`.
local function token_time(limiter, budget, tokens, square)
  local largest, token_ms = math.max(budget.largest, tokens), MINUTE_MS / limiter.tpm
  local margin, early_ms = 0, math.max(LATE_MS, largest * TRUST * token_ms)
  if is_strict(budget) then
    margin, early_ms = math.min(math.sqrt(square + budget.square), largest * MAX_MARGIN), 0
  end
  local spare_ms = (largest - tokens - margin) * token_ms
  local if_answered = math.min(math.max(budget.t, budget.b) - spare_ms, budget.b)
  return math.max(math.max(budget.b - spare_ms, if_answered) - early_ms, budget.t - RESERVED_MS)
end

-- Returns the time at which a call may begin under the limit of a rate.
local function start_time(limiter, rate, budget, tokens, square)
  local cost_ms, time = PERIOD_MS[rate] / limiter[rate], budget[FIELD[rate]]
  if limiter.learned[rate] or rate == 'rpd' then
    return time - math.max(0, PERIOD_MS[rate] - (rate == 'tpm' and tokens + math.sqrt(square) or 1) * cost_ms)
  end
  if rate == 'rpm' then return time - math.max(cost_ms / 2, LATE_MS) end
  return token_time(limiter, budget, tokens, square)
end

-- Returns how many items a limiter allows now; if none, also when it may allow one, or nil if a call has to end first.
-- `tokens`, `square`: see `estimate_tokens`, for the next item; with a token limit at most one item is allowed at a
-- time.
local function limiter_room(account, limiter, tokens, square)
  local room, next_ms = math.huge, nil
  if limiter.concurrency then
    room = limiter.concurrency - redis.call('HLEN', RUNNING .. account .. ':' .. limiter.name)
    if room <= 0 then return 0, nil end
  end
  local budget = limiter.has_rate and budget_of(account, limiter)
  for _, rate in ipairs(budget and RATES or {}) do
    if limiter[rate] then
      local time = start_time(limiter, rate, budget, tokens, square)
      if time > now_ms then
        room, next_ms = 0, math.max(next_ms or 0, time)
      else
        local owed_ms = math.max(0, budget[FIELD[rate]] - now_ms)
        local calls = math.floor((budget[FIELD[rate]] - time - owed_ms) * limiter[rate] / PERIOD_MS[rate]) + 1
        room = math.min(room, rate == 'tpm' and 1 or calls)
      end
    end
  end
  return room, next_ms
end

-- Returns how many items all limiters of a list allow now; if none, also when that may change (see limiter_room), and
-- the limiter that allows none. `tokens_of` returns the same as `estimate_tokens` for the next item, an account and a
-- limiter.
local function limiters_room(account, list, tokens_of)
  local room = math.huge
  for _, limiter in ipairs(list) do
    local tokens, square = 0, 0
    if limiter.tpm then tokens, square = tokens_of(account, limiter) end
    local allowed, at_ms = limiter_room(account, limiter, tokens, square)
    if allowed == 0 then return 0, at_ms, limiter end
    room = math.min(room, allowed)
  end
  return room
end

-- Returns an estimate of the tokens that the provider counts for an item before the call, the square of the error to
-- expect, and an estimate of all its tokens.
local function estimate_tokens(account, limiter, job, index)
  local tokens, square = prompt_tokens_of(budget_of(account, limiter).known, job, index)
  local output = output_of(job)
  local all = tokens + output.mean
  if has_flag(provider_of(account), 'o') then tokens, square = all, square + output.deviation ^ 2 end
  return tokens, square, all
end

-- Charges a limiter for a lease of an item.
local function charge(account, limiter, lease, job, index)
  local at_start, square, tokens = 0, 0, 0
  if limiter.tpm then at_start, square, tokens = estimate_tokens(account, limiter, job, index) end
  local charged = limiter.tpm and tokens .. ' ' .. at_start .. ' ' .. square or 0
  redis.call('HSET', RUNNING .. account .. ':' .. limiter.name, lease, charged)
  if not limiter.has_rate then return end
  local budget = budget_of(account, limiter)
  local function add(field, cost_ms) budget[field] = math.max(budget[field], now_ms) + cost_ms end
  for _, rate in ipairs(RATES) do
    if limiter[rate] then add(FIELD[rate], (rate == 'tpm' and tokens or 1) * PERIOD_MS[rate] / limiter[rate]) end
  end
  if limiter.tpm then
    if budget.b <= now_ms then budget.full, budget.square = now_ms, 0 end
    budget.square = budget.square + square
    add('b', at_start * MINUTE_MS / limiter.tpm)
  end
  save_budget(account, limiter)
end

-- Corrects the charges of a call that has ended. `charged`, `at_start`, `square`: the numbers in RUNNING. `usage` has
-- prompt_tokens and output_tokens as the provider counts them, or is nil. `is_refused`: the provider
-- refused the call because of a rate limit, or because it has no capacity.
local function correct(account, limiter, claimed_ms, charged, at_start, square, usage, is_refused)
  if not limiter.has_rate then return end
  local budget = budget_of(account, limiter)
  if is_refused then budget.refused = now_ms end
  if is_refused and not has_flag(provider_of(account), 'c') then
    if limiter.rpm then budget.r = budget.r - MINUTE_MS / limiter.rpm end
    if limiter.rpd then budget.d = budget.d - DAY_MS / limiter.rpd end
  end
  if limiter.tpm then
    local real, before = charged, at_start
    if usage then
      real = usage.prompt_tokens + usage.output_tokens
      before = has_flag(provider_of(account), 'o') and real or usage.prompt_tokens
      budget.largest = math.max(budget.largest, before)
    elseif is_refused then
      real, before = 0, 0
    end
    local ms_per_token, more = MINUTE_MS / limiter.tpm, before - at_start
    budget.t = budget.t + (real - charged) * ms_per_token
    -- If the bucket has been full since the claim, what was charged too much is in the bucket already.
    local is_since_full = claimed_ms >= budget.full
    if usage and not is_since_full then more = math.max(0, more) end
    if (usage or is_refused) and is_since_full then budget.square = math.max(0, budget.square - square) end
    budget.b = math.max(budget.b + more * ms_per_token, now_ms) + (real - before) * ms_per_token
  end
  save_budget(account, limiter)
end

-- Ends a lease's use of its limiters: see `suffix_of`. Without `usage` and `is_refused`, the charges are not corrected:
-- time repays them.
local function release(account, model, lease, job, index, usage, is_refused)
  local names = limiter_names(lease)
  if not names then return end
  local charges, claimed_ms = {}, tonumber(string.match(lease, '@(%d+)')) / 1000
  for _, name in ipairs(names) do
    local key = RUNNING .. account .. ':' .. name
    charges[name] = redis.call('HGET', key, lease) or '0'
    redis.call('HDEL', key, lease)
    redis.call('ZADD', BLOCKED .. account, 'XX', 0, LIMITER .. name)
  end
  for _, limiter in ipairs(limiters_of(account, model)) do
    local charged, at_start, square = string.match(charges[limiter.name] or '', '^(%S+) ?(%S*) ?(%S*)$')
    charged, at_start, square = tonumber(charged), tonumber(at_start), tonumber(square) or 0
    if charged and (usage or is_refused or limiter.tpm) then
      if usage and limiter.tpm and job.is_unfinished then
        local budget = budget_of(account, limiter)
        budget.has_learned = learn_prompt_tokens(budget.known, job, index, usage.prompt_tokens) or budget.has_learned
      end
      correct(account, limiter, claimed_ms, charged, at_start or charged, square, usage, is_refused)
    end
  end
  if usage and job.is_unfinished then learn_output(job, usage.output_tokens) end
end

-- Stores the limits that a provider announced in the headers of a response: per rate the limit and what is left of it.
-- `left` can delay calls, because others may use the same account. It never brings calls forward.
local function learn(account, model, announced)
  local name = account .. '/' .. model
  if redis.call('HLEN', LEARNED) >= MAX_LEARNED and redis.call('HEXISTS', LEARNED, name) == 0 then return end
  local limits = {}
  for rate, limit in pairs(announced) do limits[rate] = limit.limit end
  limits.until_ms = now_ms + DAY_MS
  remember_limits(LEARNED, name, limits)
  forget_limiters(account, model)
  for _, limiter in ipairs(limiters_of(account, model)) do
    for rate, limit in pairs(announced) do
      if limiter[rate] and limit.left then
        local budget, owed_ms = budget_of(account, limiter), (limit.limit - limit.left) * PERIOD_MS[rate] / limit.limit
        if not limiter.learned[rate] then owed_ms = limit.left < 1 and PERIOD_MS[rate] / limit.limit or 0 end
        budget[FIELD[rate]] = math.max(budget[FIELD[rate]], now_ms + owed_ms)
        save_budget(account, limiter)
      end
    end
  end
end
