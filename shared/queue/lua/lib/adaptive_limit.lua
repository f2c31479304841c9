--- @include "clock"
--- @include "round_reply"
--- @include "ids"
--- @include "lane_limits"
--- @include "stored_limits"
-- Adapts the number of running calls of a provider, below its limit, by additive increase and multiplicative decrease
-- (Chiu and Jain 1989). Redis has one number per provider, so all workers adapt together. The number is called the
-- *cap*.
--   lanes with the flag 'd'   The cap starts at 10. A call that was refused because of too many calls cuts it by a
--                             fifth. An answer while all slots are used raises it: by one until the first cut, then by
--                             12 % a round trip. Near the cap before the latest cut it grows by 6 %, because a refusal
--                             is likely there, and well beyond that cap by 24 %, because the provider takes more now.
--   every lane                Calls that time out halve the number of running calls, because a server that works on one
--                             request after another answers none in time if it gets too many. The cap then grows by 12
--                             % in ten round trips; a cap that reaches the limit is removed. Time-outs that are fewer
--                             than a tenth of the answers cut nothing. If nothing was answered while the first late
--                             call (a call that timed out) ran, the server did not work at all, for example because it
--                             loaded a model. Then one time-out cuts the cap, so that no call takes the place of the
--                             late call. The number of calls was not the reason, so with each answer the cap grows by
--                             one, until it has its old value.
-- One cut per epoch: only calls that were claimed after a cut can cause the next one.
-- CAPS has a state per provider, as JSON: cap (nil: no cap), cut_ms (time of the latest cut), late (time-outs, less a
-- tenth of the answers since), silent (number of running calls, if nothing was answered while the first of these late
-- calls ran), grows_to (below it, each answer adds one), peak (the cap before the latest cut), slow (1 if the latest
-- cut was because of time-outs), answered (1 if a call was answered after the latest cut).
-- Defines for other files: cap_of, has_cap_to_cut, adapt
local CUT, GROWTH, SLOW = 0.8, 0.12, 0.1
local NEAR, BEYOND = 0.95, 1.2 -- parts of the cap before the latest cut, between which the cap grows at half the pace
local HALF, TWICE = 0.5, 2
local TIMED_OUT_PART, MIN_LATE = 0.1, 2
local OVERLOADED = { [429] = true, [498] = true, [503] = true, [529] = true }
local MAX_LEASES = 1000 -- limit of the running calls whose age is looked at
local MIN_NAMED_MS = 1000 -- a refusal that names such a wait is about a rate, not about the number of calls
local states = {}
local is_full = {} -- whether all slots were used when the round began

local function state_of(provider)
  if states[provider] == nil then
    local json = has_stored_limits() and redis.call('HGET', CAPS, provider)
    states[provider] = json and cjson.decode(json) or false
  end
  return states[provider] or nil
end

local function save(provider, state)
  if not state.cap and (state.late or 0) <= 0 then
    states[provider] = false
    redis.call('HDEL', CAPS, provider)
    return
  end
  states[provider] = state
  redis.call('HSET', CAPS, provider, cjson.encode(state))
end

-- Returns the adapted limit of running calls, or math.huge without one.
local function cap_of(provider)
  local state = state_of(provider)
  local cap = state and state.cap or has_flag(provider, 'd') and ADAPTIVE_START or math.huge
  return math.max(1, math.floor(cap))
end

-- Returns whether a refusal lowers the number of running calls, so that no long pause is needed.
local function has_cap_to_cut(provider) return has_flag(provider, 'd') and cap_of(provider) > 1 end

local function is_overload(fault, usage)
  if not OVERLOADED[fault.status] or fault.verdict == 'quota_exhausted' then return false end
  if fault.verdict == 'rate_limited' and (fault.wait_ms or 0) >= MIN_NAMED_MS then return false end
  for _, limit in pairs(usage and usage.announced or {}) do
    if limit.left and limit.left < 1 then return false end -- a budget of the provider is used up
  end
  return true
end

local function cut(state, cap)
  state.peak = state.cap
  state.cap, state.cut_ms, state.late = math.max(1, cap), ms(now_ms), 0
  state.silent, state.slow, state.grows_to = nil, nil, nil
end

-- Returns whether it is certain that nothing was answered in the second half of a late call's time. While all slots are
-- used, each answer lets another call begin immediately. So if no running call began in this half, there was no answer.
-- A server that answers anything within the time-out also answers something in the second half.
local function is_silent(provider, claimed_ms, running, limit)
  if running < limit then return false end
  local half_us = (claimed_ms + now_ms) * 500
  for _, lease in ipairs(redis.call('ZREVRANGE', LEASES .. provider, 0, MAX_LEASES - 1)) do
    local _, _, _, claimed_us = split_lease(lease)
    if tonumber(claimed_us) > half_us then return false end
  end
  return true
end

-- Cuts the cap after time-outs. If no call was answered while the first late call ran, or since the previous cut, the
-- server does not work, and the number of calls is not the reason. Once the server works, the cap grows quickly to its
-- old value.
local function cut_after_time_outs(state, running)
  local was_slow, was_answered, was_silent, grows_to = state.slow, state.answered, state.silent, state.grows_to
  local cap = math.floor(running / 2)
  cut(state, cap)
  state.slow, state.answered = 1, nil
  state.grows_to = was_slow and not was_answered and grows_to or was_silent or cap
end

local function grow(state, is_adaptive, limit)
  if not state.cut_ms or state.cap < (state.grows_to or 0) then
    state.cap = state.cap + 1
  else
    local part = state.cap / (tonumber(state.peak) or math.huge)
    local pace = state.slow and SLOW or part > BEYOND and TWICE or part > NEAR and HALF or 1
    state.cap = state.cap + math.max(1, state.cap * GROWTH) / state.cap * pace
  end
  if state.cap >= limit then state.cap = is_adaptive and limit or nil end
end

-- Adapts to the end of a call, whose lease the caller has removed and counted in `ended`. `limit`: the limit of running
-- calls without a cap.
local function adapt(provider, limit, claimed_ms, outcome, fault, usage)
  local is_late = fault and fault.code == 'timeout' and not fault.status
  local is_adaptive = has_flag(provider, 'd')
  if not (is_adaptive or is_late or has_stored_limits()) or not limit then return end
  local state = state_of(provider) or is_late and {} or is_adaptive and { cap = ADAPTIVE_START }
  if not state then return end
  local running = redis.call('ZCARD', LEASES .. provider) + ended[provider] -- when the round began
  if fault and claimed_ms >= math.min(tonumber(state.cut_ms) or 0, now_ms) then
    if is_late then
      if (state.late or 0) <= 0 then
        local is_silent_now = is_silent(provider, claimed_ms, running, math.min(limit, cap_of(provider)))
        state.late, state.silent = 0, is_silent_now and running or nil
      end
      state.late = state.late + 1
      local is_cut = state.silent or state.late >= math.max(MIN_LATE, running * TIMED_OUT_PART)
      if is_cut then cut_after_time_outs(state, running) end
      save(provider, state)
    elseif is_adaptive and is_overload(fault, usage) then
      cut(state, math.min(state.cap or ADAPTIVE_START, limit) * CUT)
      save(provider, state)
    end
  elseif outcome == 'complete' then
    local was_late, was_answered = (state.late or 0) > 0, state.answered
    if was_late then state.late, state.silent = math.max(0, state.late - TIMED_OUT_PART), nil end
    if state.cut_ms then state.answered = 1 end
    if is_full[provider] == nil then is_full[provider] = running >= math.min(limit, math.floor(state.cap or limit)) end
    local has_grown = state.cap and is_full[provider]
    if has_grown then grow(state, is_adaptive, limit) end
    if has_grown or was_late or state.answered ~= was_answered then save(provider, state) end
  end
end
