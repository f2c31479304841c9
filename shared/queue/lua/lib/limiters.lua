--- @include "clock"
--- @include "lane_limits"
--- @include "deployments"
--- @include "stored_limits"
--- @include "limits_in_force"
-- Keeps the limiters of limits_in_force.lua: limits the calls of a lane's models, and the rates of requests and tokens.
-- Rates are kept by GCRA (ITU-T I.371): per dimension one time, at which all charges so far will have been repaid (the
-- theoretical arrival time). A rate that the provider announced may be used up at once, as long as the provider says that
-- some of it is left; any other rate is spread evenly, because providers judge rates in slices of a second or less.
-- If a limit has changed, what was charged takes as long as under the new limit.
-- A claim charges, time repays, so nothing can leak. Tokens are charged as an estimate, and the
-- settlement corrects the charge. BUDGET has the times; RUNNING has the leases of a limiter, with two numbers of
-- tokens for each: all that were charged, and those that the provider counts before the call.
-- Tokens are estimated as bytes × a ratio that is learned from the answers of the job, plus the mean of its answers' tokens.
-- A charge is this mean: with a higher one, the provider's bucket would be full while a call runs, and the tokens that do
-- not fit into the bucket are lost. A call begins when the bucket surely holds what the provider counts before the call:
-- the mean and its mean deviation.
-- A provider that refuses a call has a smaller bucket than that. Then a token limit is *strict* for an hour: a call begins only
-- when the smallest bucket that the provider can have is full. It holds the largest request so far, and is charged like the
-- provider's: at the claim what the provider counts before the call, at the settlement the tokens of the answer.
-- Defines for other files: limiter_room, limiters_room, estimate_tokens, charge, release, learn
local MINUTE_MS, DAY_MS = 60000, 86400000
local PERIOD_MS, FIELD = { rpm = MINUTE_MS, tpm = MINUTE_MS, rpd = DAY_MS }, { rpm = 'r', tpm = 't', rpd = 'd' }
local RATE_OF = { r = 'rpm', t = 'tpm', b = 'tpm', d = 'rpd' } -- 'b': when the smallest bucket is full again
-- The longest time that charges may take to be repaid. After a set-back of the clock, they would take longer: see
-- set_back.lua.
local MAX_AHEAD_MS = { rpm = 2 * MINUTE_MS, tpm = 10 * MINUTE_MS, rpd = DAY_MS }
local LATE_MS = 50 -- a call may be this early, because rounds are late
local KEPT_BUDGET_MS = 2 * DAY_MS
local FIRST_ESTIMATE = { ratio = 0.5, ratio_dev = 0, output = 256, output_dev = 0 }
local STRICT_MS = 3600000
local RESERVED_MS = 1000 -- while a limit is strict, so much may be owed for the answers of running calls
local SURE = 0.8 -- part of the largest request so far that the provider's bucket surely holds, as far as estimates tell
local WEIGHT = 0.2 -- of the newest answer in the means
local MAX_LEARNED = 1000 -- models per deployment whose limits are learned
local budgets = {}

local function save_budget(lane, limiter)
  local id = lane .. ':' .. limiter.name
  local budget = budgets[id]
  local fields = { 'largest', budget.largest }
  local function add(name, value) fields[#fields + 1], fields[#fields + 2] = name, value end
  for _, rate in ipairs(RATES) do
    if limiter[rate] then
      add(FIELD[rate], ms(budget[FIELD[rate]]))
      add(rate, limiter[rate])
    end
  end
  if limiter.tpm then
    add('b', ms(budget.b))
    add('full', ms(budget.full))
    add('refused', ms(budget.refused))
  end
  redis.call('HSET', BUDGET .. id, unpack(fields))
  redis.call('PEXPIRE', BUDGET .. id, KEPT_BUDGET_MS)
end

local function budget_of(lane, limiter)
  local id = lane .. ':' .. limiter.name
  if not budgets[id] then
    local r, t, b, d, rpm, tpm, rpd, largest, refused, full =
      unpack(redis.call('HMGET', BUDGET .. id, 'r', 't', 'b', 'd', 'rpm', 'tpm', 'rpd', 'largest', 'refused', 'full'))
    local charged_at = { rpm = rpm, tpm = tpm, rpd = rpd }
    -- `full`, `refused`: the times at which the smallest bucket was full, and a call was refused, the last time.
    local budget = { largest = tonumber(largest) or 0, full = tonumber(full) or 0, refused = math.min(tonumber(refused) or 0, now_ms) }
    local times, has_changed = { r = r, t = t, b = b, d = d }, false
    for field, rate in pairs(RATE_OF) do
      local time, limit, old_limit = tonumber(times[field]) or 0, limiter[rate], tonumber(charged_at[rate])
      if limit and time > now_ms then
        local ahead_ms, longest_ms = time - now_ms, MAX_AHEAD_MS[rate]
        if old_limit and old_limit ~= limit then ahead_ms = ahead_ms * old_limit / limit end
        if rate == 'tpm' then longest_ms = math.max(longest_ms, 2 * budget.largest * MINUTE_MS / limit) end
        ahead_ms = math.min(ahead_ms, longest_ms)
        if now_ms + ahead_ms < time or old_limit ~= limit then time, has_changed = now_ms + ahead_ms, true end
      end
      budget[field] = time
    end
    budgets[id] = budget
    if has_changed then save_budget(lane, limiter) end
  end
  return budgets[id]
end

local function is_strict(budget) return now_ms - budget.refused < STRICT_MS end

-- Returns how much may be owed when the next call begins, in ms.
local function early_ms(limiter, rate, budget, tokens)
  local cost_ms = PERIOD_MS[rate] / limiter[rate]
  if limiter.learned[rate] or rate == 'rpd' then return PERIOD_MS[rate] - (rate == 'tpm' and tokens or 1) * cost_ms end
  if rate == 'rpm' then return math.max(cost_ms / 2, LATE_MS) end
  if is_strict(budget) then return 0 end
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
      if rate == 'tpm' and not limiter.learned.tpm and is_strict(budget) then
        time = math.max(budget.b, time - RESERVED_MS)
      end
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

-- Returns an estimate of the tokens that the provider counts for an item, an upper estimate of the tokens that it counts before
-- the call, and the estimate of these. `lane`: the name of the account.
local function estimate_tokens(lane, job, index)
  local bytes, known = redis.call('HSTRLEN', PAYLOADS .. job.id, index), estimate_of(job)
  local all, start, dev = bytes * known.ratio + known.output, bytes * known.ratio, bytes * known.ratio_dev
  if has_flag(provider_of(lane), 'o') then start, dev = all, dev + known.output_dev end
  return all, start + dev, start
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

-- Charges a limiter for a lease. `at_start`: the tokens that the provider counts before the call.
local function charge(lane, limiter, lease, tokens, at_start)
  redis.call('HSET', RUNNING .. lane .. ':' .. limiter.name, lease, limiter.tpm and tokens .. ' ' .. at_start or 0)
  if not limiter.has_rate then return end
  local budget = budget_of(lane, limiter)
  local function add(field, cost_ms) budget[field] = math.max(budget[field], now_ms) + cost_ms end
  for _, rate in ipairs(RATES) do
    if limiter[rate] then add(FIELD[rate], (rate == 'tpm' and tokens or 1) * PERIOD_MS[rate] / limiter[rate]) end
  end
  if limiter.tpm then
    if budget.b <= now_ms then budget.full = now_ms end
    add('b', at_start * MINUTE_MS / limiter.tpm)
  end
  save_budget(lane, limiter)
end

-- Corrects the charges of a call that has ended. `usage` has prompt_tokens and output_tokens as the provider counts them, or
-- is nil. `is_refused`: the provider refused the call because of a rate limit.
local function correct(lane, limiter, claimed_ms, charged, at_start, usage, is_refused)
  if not limiter.has_rate then return end
  local budget = budget_of(lane, limiter)
  if is_refused then budget.refused = now_ms end
  if is_refused and not has_flag(provider_of(lane), 'c') then
    if limiter.rpm then budget.r = budget.r - MINUTE_MS / limiter.rpm end
    if limiter.rpd then budget.d = budget.d - DAY_MS / limiter.rpd end
  end
  if limiter.tpm then
    local real, before = charged, at_start
    if usage then
      real = usage.prompt_tokens + usage.output_tokens
      before = has_flag(provider_of(lane), 'o') and real or usage.prompt_tokens
      budget.largest = math.max(budget.largest, before)
    elseif is_refused then
      real, before = 0, 0
    end
    local ms_per_token, more = MINUTE_MS / limiter.tpm, before - at_start
    budget.t = budget.t + (real - charged) * ms_per_token
    -- If the bucket has been full since the claim, what was charged too much is in the bucket already.
    if usage and claimed_ms < budget.full then more = math.max(0, more) end
    budget.b = math.max(budget.b + more * ms_per_token, now_ms) + (real - before) * ms_per_token
  end
  save_budget(lane, limiter)
end

-- Ends a lease's use of its limiters: see `suffix_of`. Without `fault` and `usage`, the charges stay: they are repaid by time.
local function release(lane, route, lease, job, index, usage, is_refused)
  local names = limiter_names(lease)
  if not names then return end
  local charges, claimed_ms = {}, tonumber(string.match(lease, '@(%d+)')) / 1000
  for _, name in ipairs(names) do
    local key = RUNNING .. lane .. ':' .. name
    charges[name] = redis.call('HGET', key, lease) or '0'
    redis.call('HDEL', key, lease)
    redis.call('ZADD', BLOCKED .. lane, 'XX', 0, LIMITER .. name)
  end
  for _, limiter in ipairs(limiters_of(lane, route)) do
    local charged, at_start = string.match(charges[limiter.name] or '', '^(%S+) ?(%S*)$')
    charged, at_start = tonumber(charged), tonumber(at_start)
    if charged and (usage or is_refused or limiter.tpm) then
      correct(lane, limiter, claimed_ms, charged, at_start or charged, usage, is_refused)
    end
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
  forget_limiters(lane, route)
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
