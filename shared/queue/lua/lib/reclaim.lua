--- @include "clock"
--- @include "ids"
--- @include "job_cache"
--- @include "attempts"
--- @include "moves"
--- @include "results"
-- Requeues the items whose lease has expired, and the deferred items that are due.
-- Defines for other files: reclaim_expired, requeue_due

-- Removes an expired lease, because its worker was lost or did not renew it in time. The item is queued again. After
-- MAX_WORKER_LOSSES worker losses it fails instead.
local function reclaim(lane, lease)
  redis.call('ZREM', LEASES .. lane, lease)
  local id, index, claimed_us = split_lease(lease)
  local job = load_job(id)
  if not job.is_unfinished then return end
  local failed, first_claimed_us, losses = read_attempts(job, index)
  losses = losses .. ' ' .. claimed_us
  save_attempts(job, index, failed, first_claimed_us == '' and claimed_us or first_claimed_us, losses)
  if count_losses(losses) >= MAX_WORKER_LOSSES then
    write_result(job, index, true, LOST_RESULT, 0)
  else
    requeue(lane, job, index)
  end
end

-- Reclaims up to 1,000 expired leases. Returns the time at which the next lease expires, or nil.
local function reclaim_expired(lane)
  local leases = LEASES .. lane
  for _, lease in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now_ms, 'LIMIT', 0, 1000)) do
    reclaim(lane, lease)
  end
  return earliest(leases)
end

-- Requeues up to 1,000 deferred items that are due. Returns the time at which the next item is due, or nil.
local function requeue_due(lane)
  local deferred = DEFERRED .. lane
  for _, item in ipairs(redis.call('ZRANGEBYSCORE', deferred, '-inf', now_ms, 'LIMIT', 0, 1000)) do
    redis.call('ZREM', deferred, item)
    local job, index = unpark(item)
    requeue(lane, job, index)
  end
  return earliest(deferred)
end
