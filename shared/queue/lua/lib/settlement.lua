--- @include "clock"
--- @include "round_reply"
--- @include "ids"
--- @include "health_records"
--- @include "pauses"
--- @include "waiting"
--- @include "is_healthy"
--- @include "usual_lane"
--- @include "limits_in_force"
--- @include "limiters"
--- @include "adaptive_limit"
--- @include "deployments"
--- @include "fallbacks"
--- @include "deployment_choice"
--- @include "job_cache"
--- @include "attempts"
--- @include "requeue"
--- @include "write_results"
--- @include "clock_set_back"
-- Settles the lease of an item with the outcome of the item's call: stores a result, moves the item on to another
-- route, or queues it again. What the call shows about its provider changes pauses, limiters and caps.
-- Defines for other files: settle
-- Used in each round: settle
local MAX_SPREAD_MS = 2000 -- limit of the delay after an attempt that does not count

-- Records an attempt that failed and may be repeated: see settle_and_claim.lua.
local function settle_failure(lane, account, model, job, index, number, claimed_us, result, latency_us, delay_ms, fault)
  local failed, first_claimed_us, _, uncounted = read_attempts(job, index)
  first_claimed_us = first_claimed_us == '' and claimed_us or first_claimed_us
  local counts, route = true, routes_of(job, lane)[number] or ACCOUNT
  if fault then
    local item = item_of(job.id, index, number)
    counts = record_failure(account, model, item, claimed_us / 1000, tonumber(failed) > 0, fault)
    local record = not counts
    if record and is_plain(lane) then
      record = open_record(account, ACCOUNT) or open_record(account, model)
    elseif record then
      record = deployments_record(lane, model_of(route))
    end
    if record and job.is_unfinished and give_up_ms(job, record, route) <= now_ms then counts, delay_ms = true, nil end
    if may_move(route, fault.verdict) then counts, delay_ms = true, nil end
  end
  if not job.is_unfinished then return end
  if not counts then
    save_attempts(job, index, failed, first_claimed_us, '', uncounted + 1)
    if REFUSALS[fault.verdict] then
      requeue(lane, job, index, number)
    else -- the delay spreads the items; the health of their route decides when they can run
      park(DEFERRED, lane, job, index, number, queue_time(now_ms + math.min(delay_ms or MAX_SPREAD_MS, MAX_SPREAD_MS)))
    end
  elseif not delay_ms then
    if not (fault and move_on(lane, job, index, route, claimed_us, fault.code, account, model, 1)) then
      local code = fault and fault.code or 'provider_error'
      finish_failed(lane, model_of(route), job, index, result, code, tonumber(latency_us))
    end
  else
    save_attempts(job, index, failed + 1, first_claimed_us, '', uncounted)
    if delay_ms > 0 then
      park(DEFERRED, lane, job, index, number, queue_time(now_ms + delay_ms))
    else
      requeue(lane, job, index, number)
    end
  end
end

-- Settles a lease with the outcome of its call: see settle_and_claim.lua. Returns false if the lease had expired or was
-- settled before.
local function settle(lane, lease, outcome, result, latency_us, delay_ms, fault, usage)
  local id, index, number, claimed_us, names_more = split_lease(lease)
  local job = load_job(id)
  if redis.call('ZREM', LEASES .. lane, lease) == 0 then
    forgive_loss(job, index, claimed_us)
    return false
  end
  if outcome == 'complete' and fault == '' and usage == '' and not names_more and is_usual(lane) then
    ended[lane] = (ended[lane] or 0) + 1
    write_result(job, index, false, result, tonumber(latency_us))
    return true -- the answer changes nothing but the item: no limiter, pause or cap of the lane
  end
  local _, account, model, provider = served_by(lease, lane)
  ended[provider] = (ended[provider] or 0) + 1
  mark_unusual(lane)
  mark_unusual(provider)
  if provider ~= lane then redis.call('ZREM', LEASES .. provider, lease) end
  local route = routes_of(job, lane)[number] or ACCOUNT
  model = model or model_of(route)
  fault, usage = fault ~= '' and cjson.decode(fault), usage ~= '' and cjson.decode(usage)
  if usage or string.find(lease, '~', 1, true) then
    local counted, is_refused = usage and usage.prompt_tokens and usage, fault and REFUSALS[fault.verdict]
    release(account, model, lease, job, index, counted, is_refused)
    if usage and usage.announced then learn(account, model, usage.announced) end
  end
  local evidence = fault and not fault.ignored and fault
  adapt(provider, highest_limit(provider), claimed_us / 1000, outcome, evidence, usage)
  if outcome == 'retry' then
    settle_failure(lane, account, model, job, index, number, claimed_us, result, latency_us, tonumber(delay_ms), fault)
  elseif outcome == 'release' then
    requeue(lane, job, index, number)
  else
    if outcome == 'complete' and not is_healthy(account) then record_answer(account, model, claimed_us / 1000) end
    if evidence then record_failure(account, model, item_of(id, index, number), claimed_us / 1000, true, evidence) end
    local has_moved = false
    if outcome == 'fail' and fault and may_move_at_last(route, fault.verdict) then
      has_moved = move_on(lane, job, index, route, claimed_us, fault.code, account, model, calls_of(fault))
    end
    if not has_moved and outcome == 'fail' and fault and has_fallbacks(route) then
      -- The worker does not report this failure: see `may_move_on` in worker/tasks.py.
      finish_failed(provider, model, job, index, result, fault.code, tonumber(latency_us))
    elseif not has_moved then
      write_result(job, index, outcome == 'fail', result, tonumber(latency_us))
    end
  end
  if not is_healthy(account) then end_probe(account, model, lease) end
  return true
end
