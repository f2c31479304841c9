--- @include "clock"
--- @include "ids"
--- @include "job_cache"
--- @include "attempts"
--- @include "moves"
--- @include "results"
-- Takes back what time has brought: leases that have ended, items whose delay is over.

-- The lease has ended: its worker was lost or cut off. The item runs again, unless it keeps killing workers.
local function reclaim(lane, lease)
  redis.call('ZREM', LEASES .. lane, lease)
  local id, index, old_claim = split_lease(lease)
  local job = load_job(id)
  if not job.unfinished then return end
  local failed, first_claim, losses = read_attempts(job, index)
  losses = losses .. ' ' .. old_claim
  save_attempts(job, index, failed, first_claim == '' and old_claim or first_claim, losses)
  if count_losses(losses) >= MAX_WORKER_LOSSES then
    write_result(job, index, true, LOST_RESULT, 0)
  else
    requeue(lane, job, index)
  end
end

-- Returns when the next lease ends, or nil.
local function reclaim_ended(lane)
  local leases = LEASES .. lane
  for _, lease in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 1000)) do reclaim(lane, lease) end
  return earliest(leases)
end

-- Returns when the next item is due, or nil.
local function requeue_due(lane)
  local deferred = DEFERRED .. lane
  for _, item in ipairs(redis.call('ZRANGEBYSCORE', deferred, '-inf', now, 'LIMIT', 0, 1000)) do
    redis.call('ZREM', deferred, item)
    local job, index = unpark(item)
    requeue(lane, job, index)
  end
  return earliest(deferred)
end
