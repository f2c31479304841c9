#!lua flags=allow-oom
-- Ends jobs whose deadline has passed, and removes expired jobs and files from their owners' lists. The workers do the same
-- for jobs in their rounds, but there may be no worker, so the API calls this script, too. If Redis's clock was set back,
-- the script first corrects the times of JOB_DEADLINES and WORKERS.
-- Constant: LEASE_MS (time after which a worker that does not renew its leases counts as lost)
--- @include "clock"
--- @include "files"
--- @include "job_end"
--- @include "set_back"

-- Stores an earlier time in a job's field and in JOB_DEADLINES.
local function bring_forward(id, field, time_ms)
  redis.call('HSET', JOB .. id, field, ms(time_ms))
  redis.call('ZADD', JOB_DEADLINES, 'XX', 'LT', ms(time_ms), id)
end

local function correct_deadlines()
  for _, id in ipairs(redis.call('ZRANGE', JOB_DEADLINES, 0, -1)) do
    local accepted_ms, deadline_ms, abandoned_until_ms, grace_ms = unpack(redis.call('HMGET', JOB .. id, 'accepted_ms',
      'deadline_ms', 'abandoned_until_ms', 'grace_ms'))
    if deadline_ms and tonumber(accepted_ms) > now_ms then
      bring_forward(id, 'deadline_ms', now_ms + tonumber(deadline_ms) - tonumber(accepted_ms))
      redis.call('HSET', JOB .. id, 'accepted_ms', ms(now_ms)) -- the distance of the two stays the same
    end
    if abandoned_until_ms and tonumber(abandoned_until_ms) > now_ms + tonumber(grace_ms) then
      bring_forward(id, 'abandoned_until_ms', now_ms + tonumber(grace_ms))
    end
  end
end

if read_set_back('api') > 0 then
  lower(WORKERS, now_ms + LEASE_MS)
  correct_deadlines()
end
end_overdue_jobs()
forget_expired(200)
forget_expired_files(100)
