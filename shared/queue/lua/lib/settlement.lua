--- @include "ids"
--- @include "pauses"
--- @include "job_cache"
--- @include "attempts"
--- @include "moves"
--- @include "results"
-- Ends a lease with its outcome: see settle_and_claim.lua. Returns whether the lease was still held.
local function settle(lane, lease, outcome, value, latency_us, pause_ms, pause_reason)
  local id, index, old_claim = split_lease(lease)
  local job = load_job(id)
  if redis.call('ZREM', LEASES .. lane, lease) == 0 then
    forgive_loss(job, index, old_claim)
    return false
  end
  if tonumber(pause_ms) > 0 then pause(lane, tonumber(pause_ms), pause_reason) end
  if outcome == 'complete' or outcome == 'fail' then
    write_result(job, index, outcome == 'fail', value, tonumber(latency_us))
  elseif outcome == 'retry' and job.unfinished then
    local failed, first_claim = read_attempts(job, index)
    save_attempts(job, index, failed + 1, first_claim == '' and old_claim or first_claim, '')
    if tonumber(value) > 0 then
      park(DEFERRED, lane, job, index, now + tonumber(value))
    else
      requeue(lane, job, index)
    end
  elseif outcome == 'release' then
    requeue(lane, job, index)
  end
  return true
end
