--- @include "health_records"
--- @include "active_lanes"
--- @include "ids"
--- @include "clock"
--- @include "round_reply"
--- @include "job_cache"
--- @include "attempts"
--- @include "requeue"
--- @include "waiting"
--- @include "blocking_scope"
--- @include "limits_in_force"
--- @include "limiters"
--- @include "deployments"
--- @include "fallbacks"
--- @include "deployment_choice"
--- @include "clock_set_back"
--- @include "work_limit"
-- Gives leases to items. `claimed` collects a list per leased item: see what settle_and_claim.lua returns.
-- Defines for other files: lease_of, lease_items, lease_quarantined
-- Used in each round: lease_items, end_of_lease, now_us
local now_us = string.format('%.0f', now_ms * 1000) -- unique per round: no two rounds run in the same µs
local LEAVING_WORK = 20 -- number of commands for an item that leaves the quarantine, perhaps because its job has ended
local MAX_WAITING = 8 -- limit of quarantined items of a lane that a round looks at although they have to wait

-- `list`: the limiters of the item. `deployment`: nil for a plain lane.
local function end_of_lease(lane, list, deployment)
  if not deployment and #list == 0 then return '@' .. now_us end
  return '@' .. now_us .. encode_deployment(lane, deployment) .. suffix_of(list)
end

local function lease_of(lane, job_id, index, number, list, deployment)
  return item_of(job_id, index, number) .. end_of_lease(lane, list, deployment)
end

-- Gives leases to items of one route, which the caller has taken out of their queue, and charges the route's limiters.
-- Returns the number of leases. Items of a job that has ended and items without a payload get no lease: they are
-- dropped.
local function lease_items(lane, job, number, indexes, list, deployment)
  if not job.is_unfinished then return 0 end
  if not job.has_started then redis.call('HSET', JOB .. job.id, 'started_ms', ms(now_ms)) end
  job.has_started = true
  local payloads = redis.call('HMGET', PAYLOADS .. job.id, unpack(indexes))
  local model = moved_model(routes_of(job, lane)[number] or '')
  local moved = model ~= '' and redis.call('HMGET', MOVED .. job.id, unpack(indexes)) or {}
  local entries = job.has_attempts and redis.call('HMGET', ATTEMPTS .. job.id, unpack(indexes)) or {}
  local queued_ms = ms(math.max(0, now_ms - tonumber(job.accepted_ms)))
  local remaining_ms = job.deadline_ms and ms(job.deadline_ms - now_ms) or ''
  local expires_ms, leases, lease_end = ms(now_ms + LEASE_MS), {}, end_of_lease(lane, list, deployment)
  local account = deployment and deployment.account or lane
  if deployment and deployment.model ~= '' then model = deployment.model end
  for i, index in ipairs(indexes) do
    if payloads[i] then
      local lease = item_of(job.id, index, number) .. lease_end
      leases[#leases + 1], leases[#leases + 2] = expires_ms, lease
      local failed, first_claimed_us, losses, uncounted, lost = '0', '', '', 0, 0
      if entries[i] then
        failed, first_claimed_us, losses, uncounted = parse_attempts(entries[i])
        lost = count_losses(losses)
      end
      claimed[#claimed + 1] = {
        job.id .. ':' .. index, lease, lane, payloads[i], failed, uncounted, first_claimed_us, lost,
        queued_ms, remaining_ms, account, model, moved[i] or '', job.owner,
      }
      for _, limiter in ipairs(list) do charge(account, limiter, lease, job, index) end
    end
  end
  if #leases == 0 then return 0 end
  redis.call('ZADD', LEASES .. lane, unpack(leases))
  if deployment and deployment.provider ~= lane then
    redis.call('ZADD', LEASES .. deployment.provider, unpack(leases))
    add_lane(deployment.provider)
  end
  return #leases / 2
end

-- Gives a lease to the first quarantined item of the lane whose route takes calls. Items that have waited for too long
-- for an open scope move on or fail. Returns the number of leases, 0 or 1, and whether the next run has to look at more
-- items.
local function lease_quarantined(lane)
  local waiting_count = 0
  while waiting_count < MAX_WAITING and has_work_left() do
    local item = redis.call('ZRANGE', QUARANTINE .. lane, waiting_count, waiting_count)[1]
    if not item then return 0 end
    local id, index, number = split_item(item)
    local job = load_job(id)
    local route = routes_of(job, lane)[number]
    local model = route and model_of(route)
    local scope, allowed = blocking_scope(lane, model)
    local record = route and scope and waiting_record(lane, scope)
    local until_ms = record and job.is_unfinished and give_up_ms(job, record, route)
    if route and scope and not (until_ms and until_ms <= now_ms) then
      waiting_count = waiting_count + 1
      redis.call('ZADD', BLOCKED .. lane, 'LT', ms(queue_time(math.min(allowed, until_ms or allowed))), scope)
    else
      spend(LEAVING_WORK)
      redis.call('ZREM', QUARANTINE .. lane, item)
      unpark(item)
      local list, deployment = {}, nil
      if is_plain(lane) then
        list = route and limiters_of(lane, model) or {}
      elseif route then
        local function tokens_of(account, limiter) return estimate_tokens(account, limiter, job, index) end
        deployment = choose(lane, model, tokens_of)
        list = deployment and limiters_of(deployment.account, deployment.scope) or {}
      end
      if record then
        give_up_item(lane, route, job, index, record)
      elseif route and not is_plain(lane) and not deployment then
        park(QUARANTINE, lane, job, index, number, job.accepted_ms) -- no deployment has room
        return 0
      elseif lease_items(lane, job, number, { index }, list, deployment) > 0 then
        if allowed < math.huge then
          local account, scope = deployment and deployment.account or lane, deployment and deployment.scope or model
          mark_probe(account, scope, lease_of(lane, id, index, number, list, deployment))
        end
        return 1
      end
    end
  end
  return 0, waiting_count < MAX_WAITING
end
