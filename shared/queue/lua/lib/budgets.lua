--- @include "clock"
--- @include "limits_in_force"
--- @include "token_estimates"
-- Keeps the budget of each limiter with a rate, in BUDGET. By GCRA (ITU-T I.371) a rate needs one number: the time at
-- which all charges so far will have been repaid (the theoretical arrival time). A charge moves this time ahead by what
-- it costs. If a limit has changed, the earlier charges are repaid at the rate of the new limit.
-- Fields of a budget:
--   r, t, d        the times of the rates rpm, tpm and rpd
--   b              the time at which the smallest bucket that the provider may have is full again: see limiters.lua
--   largest        number of tokens of the largest request
--   full           last time at which the smallest bucket was full
--   refused        time of the last refused call
--   square         square of the error of the bucket's tokens since it was full
--   known          see token_estimates.lua
-- Defines for other files: MINUTE_MS, DAY_MS, PERIOD_MS, FIELD, budget_of, save_budget
local MINUTE_MS, DAY_MS = 60000, 86400000
local PERIOD_MS, FIELD = { rpm = MINUTE_MS, tpm = MINUTE_MS, rpd = DAY_MS }, { rpm = 'r', tpm = 't', rpd = 'd' }
local RATE_OF = { r = 'rpm', t = 'tpm', b = 'tpm', d = 'rpd' }
-- The longest time that charges may take to be repaid. After a set-back of the clock, they would take longer: see
-- clock_set_back.lua.
local MAX_AHEAD_MS = { rpm = 2 * MINUTE_MS, tpm = 10 * MINUTE_MS, rpd = DAY_MS }
local KEPT_BUDGET_MS = 2 * DAY_MS
local budgets = {}

-- Stores the budget that `budget_of` has returned, after the caller has changed it.
local function save_budget(account, limiter)
  local id = account .. ':' .. limiter.name
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
    add('square', budget.square)
    if budget.has_learned then add('known', cmsgpack.pack(budget.known)) end
  end
  redis.call('HSET', BUDGET .. id, unpack(fields))
  redis.call('PEXPIRE', BUDGET .. id, KEPT_BUDGET_MS)
end

-- Returns the budget of a limiter of an account. A time that has passed means that nothing is owed.
local function budget_of(account, limiter)
  local id = account .. ':' .. limiter.name
  if not budgets[id] then
    local r, t, b, d, rpm, tpm, rpd, largest, refused, full, square, known = unpack(redis.call('HMGET', BUDGET .. id,
      'r', 't', 'b', 'd', 'rpm', 'tpm', 'rpd', 'largest', 'refused', 'full', 'square', 'known'))
    local charged_at = { rpm = rpm, tpm = tpm, rpd = rpd }
    local budget = {
      largest = tonumber(largest) or 0, full = tonumber(full) or 0, refused = math.min(tonumber(refused) or 0, now_ms),
      square = tonumber(square) or 0, known = limiter.tpm and (known and cmsgpack.unpack(known) or new_weights()),
    }
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
    if has_changed then save_budget(account, limiter) end
  end
  return budgets[id]
end
