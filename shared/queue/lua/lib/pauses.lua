--- @include "clock"
--- @include "round_reply"
--- @include "is_healthy"
--- @include "deployments"
--- @include "lane_limits"
--- @include "adaptive_limit"
--- @include "health_records"
-- Decides what a call's answer or failure shows about the health of its account and model, and for how long these are
-- paused. health_records.lua describes the records.
-- Defines for other files: REFUSALS, FIRST_PROBE_MS, record_answer, record_failure
-- The wait after a refusal that names no time is doubled for each further refusal in a row.
local FIRST_BACKOFF_MS, MAX_BACKOFF_MS = 500, 30000
local ADAPTED_BACKOFF_MS = 250 -- the same wait if a refusal also cuts the cap: see adaptive_limit.lua
local FIRST_PROBE_MS = 1000
local MODEL_WAIT_MS = 100 -- wait until the first probe of a model, after failures in a row
local MAX_PROBE_MS, MAX_PROBE_500_MS = 60000, 5000
local MAX_FAILURES, MIN_FAILED_ITEMS = 5, 3 -- numbers of failures in a row, and of failed items, that open a scope
local MAX_REFUSALS = 3 -- one more refusal in a row that names no time opens the scope
local MOMENT_MS = 10000 -- calls to two models that are refused within this time may have the same cause
local MAX_RECORDS = 1000 -- of an account; beyond it, faults of further models are recorded for the account as a whole
-- One failure with such a verdict opens a scope.
local OPENING = { unreachable = true, unauthorized = true, quota_exhausted = true }
local REFUSALS = { rate_limited = true, overloaded = true }
-- These failures show that the provider answers calls.
local ALIVE = { rejected = true, model_not_found = true, context_too_long = true, content_filtered = true }

local function new_record() return { until_ms = 0, pause_ms = 0, failures = 0, failed_items = {}, refusals = 0 } end

local function pause(record, wait_ms)
  if now_ms + wait_ms <= record.until_ms then return end
  record.until_ms, record.pause_ms = now_ms + wait_ms, wait_ms
end

local function open(account, scope, record, probe_ms, wait_ms)
  record.opened_ms, record.probe_ms = now_ms, probe_ms
  pause(record, wait_ms)
  look_again(account, scope) -- from now on, the queues that wait for the scope can give up
end

-- Prolongs the pause of an open scope, if the failed call was a probe.
local function fail_probe(record, item, claimed_ms, fault)
  if claimed_ms < record.opened_ms then return end
  record.time_outs = fault.code == 'timeout' and (record.time_outs or 0) + 1 or 0
  local longest_ms = fault.status == 500 and MAX_PROBE_500_MS or MAX_PROBE_MS
  record.probe_ms, record.last_failed = math.min(math.max(record.probe_ms * 2, FIRST_PROBE_MS), longest_ms), item
  pause(record, math.max(record.probe_ms, fault.wait_ms or 0))
end

local function note(record, fault)
  record.reason, record.verdict, record.code, record.status = fault.reason, fault.verdict, fault.code, fault.status
  record.noted_ms = now_ms
end

local function has_effect(record)
  return math.max(record.until_ms, record.refused_until_ms or 0, record.separate_until_ms or 0) > now_ms
end

-- Returns whether an answer of a model shows that the latest refusals do not cover the account, although they may do so
-- by `of_account`, the record of the account as a whole. The answered call must have been claimed no earlier than the
-- refused call, and its model must have no record of its own.
local function is_counterevidence(account, of_account, model, claimed_ms)
  return (of_account.is_unanswered or of_account.is_assumed)
    and claimed_ms >= of_account.refused_claim_ms
    and not read_record(account, model)
end

-- Lets refusals cover only their models, until some time after the pauses of all models have ended.
local function separate_models(account, of_account)
  of_account.separate_until_ms, of_account.is_unanswered = math.max(of_account.longest_ms, now_ms) + MOMENT_MS, nil
  if of_account.is_assumed then
    of_account.until_ms, of_account.pause_ms, of_account.is_assumed = 0, 0, nil
    look_again(account, ACCOUNT)
  end
  of_account.failures, of_account.failed_items, of_account.refusals = 0, {}, 0
  store_record(account, ACCOUNT, of_account)
end

-- Records that the provider answered a call, or refused only the call's request. `claimed_ms` is the time of the call's
-- claim: a call that was claimed before a scope opened says nothing about the scope's present state.
local function record_answer(account, model, claimed_ms)
  if is_healthy(account) then return end
  for _, scope in ipairs(scopes_of(model)) do
    local record = read_record(account, scope)
    if record and record.opened_ms then
      if claimed_ms >= record.opened_ms then
        delete_record(account, scope)
        has_recovered[account] = true
      end
    elseif record and scope == ACCOUNT and is_counterevidence(account, record, model, claimed_ms) then
      separate_models(account, record)
    elseif record and not has_effect(record) then
      delete_record(account, scope)
    elseif record and record.failures + record.refusals > 0 then
      record.failures, record.failed_items, record.refusals = 0, {}, 0
      store_record(account, scope, record)
    end
  end
end

-- Returns whether the account may have another record. If there are too many records, first removes some that have no
-- effect any more. A model that has failed a moment ago keeps its record, which counts its failures.
local function has_record_room(account)
  if redis.call('HLEN', HEALTH .. account) < MAX_RECORDS then return true end
  for _, scope in ipairs(redis.call('HRANDFIELD', HEALTH .. account, 20)) do
    local record = read_record(account, scope)
    local is_old = record and math.abs(now_ms - (record.noted_ms or 0)) > MAX_BACKOFF_MS
    if is_old and not record.opened_ms and not has_effect(record) then delete_record(account, scope) end
  end
  return redis.call('HLEN', HEALTH .. account) < MAX_RECORDS
end

-- Returns the scope that a refusal covers: the model, unless the refusal says that it covers the account, or another
-- model was refused a moment ago and is still paused, and no further model was answered since then; or unless the
-- account has too many records. Also returns whether the scope is an assumption, because a provider that limits each
-- model has refused two models.
local function covered_scope(account, model, fault)
  if fault.covers_account then return ACCOUNT end
  local of_account = read_record(account, ACCOUNT)
  local left_ms = of_account and of_account.refused_route ~= model and (of_account.refused_until_ms or 0) - now_ms or 0
  local are_separate = of_account and (of_account.separate_until_ms or 0) > now_ms
  if left_ms > 0 and left_ms <= MOMENT_MS and not are_separate then -- more is left if Redis's clock was set back
    return ACCOUNT, not has_flag(provider_of(account), 'a')
  end
  return (read_record(account, model) or has_record_room(account)) and model or ACCOUNT
end

-- Pauses or opens a scope after a refusal. Returns the wait in ms that the refusal asks for, or the back-off.
local function refuse(account, scope, item, claimed_ms, fault, is_assumed)
  local record = read_record(account, scope) or new_record()
  if not record.refused_ms or claimed_ms >= math.min(record.refused_ms, now_ms) then
    record.refusals, record.refused_ms = record.refusals + 1, now_ms
  end
  note(record, fault)
  local backoff_ms = math.min(FIRST_BACKOFF_MS * 2 ^ math.max(0, record.refusals - 1), MAX_BACKOFF_MS)
  local is_adapted = has_cap_to_cut(provider_of(account))
  if is_adapted then backoff_ms = ADAPTED_BACKOFF_MS end
  local is_named = (fault.wait_ms or 0) >= backoff_ms
  local wait_ms = is_named and fault.wait_ms or backoff_ms
  if record.opened_ms then
    fail_probe(record, item, claimed_ms, fault)
  elseif is_named and fault.verdict == 'overloaded'
    or not is_named and record.refusals > MAX_REFUSALS and not is_adapted then
    open(account, scope, record, FIRST_PROBE_MS, wait_ms)
  else
    record.is_assumed = is_assumed and (record.is_assumed or record.until_ms <= now_ms) or nil
    pause(record, is_assumed and math.min(wait_ms, backoff_ms, MOMENT_MS) or wait_ms)
  end
  store_record(account, scope, record)
  return wait_ms
end

local function record_refusal(account, model, item, claimed_ms, fault)
  local scope, is_assumed = covered_scope(account, model, fault)
  local wait_ms = refuse(account, scope, item, claimed_ms, fault, is_assumed)
  if scope == ACCOUNT and not is_assumed then return end
  local of_account = read_record(account, ACCOUNT) or new_record()
  of_account.longest_ms = math.max(of_account.longest_ms or 0, now_ms + wait_ms)
  if is_assumed then
    -- If the assumption turns out to be wrong, the model stays paused.
    if model ~= ACCOUNT and (read_record(account, model) or has_record_room(account)) then
      refuse(account, model, item, claimed_ms, fault)
    end
  else
    of_account.refused_route, of_account.refused_until_ms = model, now_ms + math.min(wait_ms, MOMENT_MS)
    of_account.refused_claim_ms, of_account.is_unanswered = claimed_ms, not has_flag(provider_of(account), 'a')
  end
  store_record(account, ACCOUNT, of_account)
end

-- Records an attempt that failed for a reason that may pass. `is_repeated`: the item has failed before. An item that
-- has failed before, while the provider answered other items, is no evidence against the provider: its failures count
-- for the item only. Returns whether the attempt counts for the item.
local function record_transient(account, model, item, claimed_ms, is_repeated, fault)
  local counts = true
  for _, scope in ipairs(scopes_of((read_record(account, model) or has_record_room(account)) and model or ACCOUNT)) do
    local record = read_record(account, scope) or new_record()
    local is_evidence = not is_repeated or record.failed_items[item]
    note(record, fault)
    if record.opened_ms then
      local is_probe = claimed_ms >= record.opened_ms
      fail_probe(record, item, claimed_ms, fault)
      if is_evidence and not (is_probe and fault.status == 500) then counts = false end
    elseif is_evidence then
      record.failures, record.failed_items[item] = record.failures + 1, true
      local items = 0
      for _ in pairs(record.failed_items) do items = items + 1 end
      -- If all failed calls were of one model, the first probe of the account is of another model, if there is one.
      local wait_ms = scope == ACCOUNT and 0 or MODEL_WAIT_MS
      if record.failures >= MAX_FAILURES and items >= MIN_FAILED_ITEMS then open(account, scope, record, 0, wait_ms) end
    end
    store_record(account, scope, record)
  end
  return counts
end

-- Records a failed attempt: see Fault in shared/queue/leases.py. Returns whether the attempt counts for the item.
local function record_failure(account, model, item, claimed_ms, is_repeated, fault)
  if ALIVE[fault.verdict] then
    record_answer(account, model, claimed_ms)
    return true
  elseif fault.verdict == 'unfinished' then -- counts always, so that a request that never gets a whole answer ends
    for _, scope in ipairs(scopes_of(model)) do
      local record = open_record(account, scope)
      if record then
        fail_probe(record, item, claimed_ms, fault)
        store_record(account, scope, record)
      end
    end
    return true
  elseif REFUSALS[fault.verdict] then
    local of_account = open_record(account, ACCOUNT)
    if of_account and OPENING[of_account.verdict] then record_answer(account, model, claimed_ms) end
    record_refusal(account, model, item, claimed_ms, fault)
    return false
  elseif OPENING[fault.verdict] then
    local scope = fault.verdict == 'quota_exhausted' and covered_scope(account, model, fault) or ACCOUNT
    local record = read_record(account, scope) or new_record()
    note(record, fault)
    if record.opened_ms then
      fail_probe(record, item, claimed_ms, fault)
    else
      open(account, scope, record, FIRST_PROBE_MS, math.max(FIRST_PROBE_MS, fault.wait_ms or 0))
    end
    store_record(account, scope, record)
    return false
  end
  return record_transient(account, model, item, claimed_ms, is_repeated, fault)
end
