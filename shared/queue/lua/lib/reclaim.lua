--- @include "clock"
--- @include "ids"
--- @include "job_cache"
--- @include "attempts"
--- @include "requeue"
--- @include "limiters"
--- @include "deployments"
--- @include "fallbacks"
--- @include "write_results"
--- @include "clock_set_back"
--- @include "work_limit"
-- Requeues the items whose lease has expired, and the deferred items that are due.
-- Defines for other files: reclaim_expired, requeue_due

local MAX_ENTRIES = 100 -- limit of the entries of a lane that one run handles
local RECLAIM_WORK, REQUEUE_WORK = 20, 12 -- numbers of commands; an item that fails may end its job

-- Removes an expired lease, because its worker was lost or did not renew it in time. The item is queued again. After
-- MAX_WORKER_LOSSES worker losses it fails instead.
local function reclaim(found_in, lease)
  local id, index, number, claimed_us = split_lease(lease)
  local lane, account, scope, provider = served_by(lease, found_in)
  redis.call('ZREM', LEASES .. lane, lease)
  if provider ~= lane then redis.call('ZREM', LEASES .. provider, lease) end
  local job = load_job(id)
  local model = model_of(routes_of(job, lane)[number] or '')
  release(account, scope or model, lease, job, index)
  if not job.is_unfinished then return end
  local failed, first_claimed_us, losses, uncounted = read_attempts(job, index)
  losses = losses .. ' ' .. claimed_us
  save_attempts(job, index, failed, first_claimed_us == '' and claimed_us or first_claimed_us, losses, uncounted)
  if count_losses(losses) >= MAX_WORKER_LOSSES then
    finish_failed(lane, model, job, index, LOST_RESULT, 'worker_lost', 0)
  else
    requeue(lane, job, index, number)
  end
end

-- Reclaims expired leases, as many as one run may. Returns the time at which the next lease expires, or nil.
local function reclaim_expired(lane)
  local leases = LEASES .. lane
  for _, lease in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now_ms, 'LIMIT', 0, MAX_ENTRIES)) do
    if not has_work_left() then break end
    spend(RECLAIM_WORK)
    reclaim(lane, lease)
  end
  return earliest(leases)
end

-- Requeues deferred items that are due, as many as one run may. Returns the time at which the next item is due, or nil.
local function requeue_due(lane)
  local deferred = DEFERRED .. lane
  local due = redis.call('ZRANGEBYSCORE', deferred, '-inf', queue_time(now_ms), 'LIMIT', 0, MAX_ENTRIES)
  for _, item in ipairs(due) do
    if not has_work_left() then break end
    spend(REQUEUE_WORK)
    redis.call('ZREM', deferred, item)
    local job, index, number = unpark(item)
    requeue(lane, job, index, number)
  end
  return clock_time(earliest(deferred))
end
