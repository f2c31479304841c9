--- @include "ids"
--- @include "pauses"
--- @include "job_cache"
--- @include "attempts"
--- @include "moves"
--- @include "results"
-- Defines for other files: settle

-- Settles a lease with the outcome of its call: see settle_and_claim.lua. Returns false if the lease had expired or was
-- settled before.
local function settle(lane, lease, outcome, value, latency_us, pause_ms, pause_reason)
  local id, index, number, claimed_us = split_lease(lease)
  local job = load_job(id)
  if redis.call('ZREM', LEASES .. lane, lease) == 0 then
    forgive_loss(job, index, claimed_us)
    return false
  end
  if tonumber(pause_ms) > 0 then pause(lane, tonumber(pause_ms), pause_reason) end
  if outcome == 'complete' or outcome == 'fail' then
    write_result(job, index, outcome == 'fail', value, tonumber(latency_us))
  elseif outcome == 'retry' and job.is_unfinished then
    local failed, first_claimed_us = read_attempts(job, index)
    save_attempts(job, index, failed + 1, first_claimed_us == '' and claimed_us or first_claimed_us, '')
    if tonumber(value) > 0 then
      park(DEFERRED, lane, job, index, number, now_ms + tonumber(value))
    else
      requeue(lane, job, index, number)
    end
  elseif outcome == 'release' then
    requeue(lane, job, index, number)
  end
  return true
end
