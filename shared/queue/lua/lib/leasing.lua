--- @include "clock"
--- @include "job_cache"
--- @include "attempts"
--- @include "moves"
--- @include "waiting"
--- @include "limiters"
-- Gives leases to items. `claimed` collects ten values per leased item: see what settle_and_claim.lua returns.
-- Defines for other files: claimed, lease_of, lease_items, lease_quarantined
local now_us = string.format('%.0f', now_ms * 1000) -- unique per round: no two rounds run in the same µs
local claimed = {}
local MAX_WAITING = 8 -- limit of quarantined items of a lane that a round looks at although they have to wait

local function lease_of(job_id, index, number, list) return item_of(job_id, index, number) .. '@' .. now_us .. suffix_of(list) end

-- Gives leases to items of one route, which the caller has taken out of their queue, and charges the route's limiters.
-- Returns the number of leases. If the job has ended, its items get no lease: they are dropped.
local function lease_items(lane, job, number, indexes, list)
  if not job.is_unfinished then return 0 end
  if not job.has_started then redis.call('HSET', JOB .. job.id, 'started_ms', ms(now_ms)) end
  job.has_started = true
  local payloads = redis.call('HMGET', PAYLOADS .. job.id, unpack(indexes))
  local entries = job.has_attempts and redis.call('HMGET', ATTEMPTS .. job.id, unpack(indexes)) or {}
  local queued_ms = ms(math.max(0, now_ms - tonumber(job.accepted_ms)))
  local remaining_ms = job.deadline_ms and ms(job.deadline_ms - now_ms) or ''
  local expires_ms, leases = ms(now_ms + LEASE_MS), {}
  for i, index in ipairs(indexes) do
    if payloads[i] then
      local item = job.id .. ':' .. index
      local lease = lease_of(job.id, index, number, list)
      leases[#leases + 1], leases[#leases + 2] = expires_ms, lease
      local failed, first_claimed_us, losses, uncounted = '0', '', '', 0
      if entries[i] then failed, first_claimed_us, losses, uncounted = parse_attempts(entries[i]) end
      for _, value in ipairs({ item, lease, lane, payloads[i], failed, uncounted, first_claimed_us, count_losses(losses), queued_ms,
        remaining_ms }) do
        claimed[#claimed + 1] = value
      end
      for _, limiter in ipairs(list) do charge(lane, limiter, lease, limiter.tpm and estimate_tokens(job, index) or 0) end
    end
  end
  if #leases > 0 then redis.call('ZADD', LEASES .. lane, unpack(leases)) end
  return #leases / 2
end

-- Gives a lease to the first quarantined item of the lane whose route takes calls. Items that have waited for too long for
-- an open scope finish. Returns the number of leases, 0 or 1.
local function lease_quarantined(lane)
  local waiting_count = 0
  while waiting_count < MAX_WAITING do
    local item = redis.call('ZRANGE', QUARANTINE .. lane, waiting_count, waiting_count)[1]
    if not item then return 0 end
    local id, index, number = split_item(item)
    local job = load_job(id)
    local route = routes_of(job, lane)[number]
    local scope, allowed = blocking_scope(lane, route)
    local record = route and scope and open_record(lane, scope)
    local until_ms = record and job.is_unfinished and give_up_ms(job, record)
    if route and scope and not (until_ms and until_ms <= now_ms) then
      waiting_count = waiting_count + 1
      redis.call('ZADD', BLOCKED .. lane, 'LT', ms(math.min(allowed, until_ms or allowed)), scope)
    else
      redis.call('ZREM', QUARANTINE .. lane, item)
      unpark(item)
      local list = route and limiters_of(lane, route) or {}
      if record then
        finish_unsent(lane, route, job, index, record)
      elseif lease_items(lane, job, number, { index }, list) > 0 then
        if allowed < math.huge then mark_probe(lane, route, lease_of(id, index, number, list)) end
        return 1
      end
    end
  end
  return 0
end
