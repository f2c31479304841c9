#!lua flags=allow-oom
-- Records that the client of a job has disconnected. If the same owner posts the same body again within the grace
-- period, accept.lua returns this job instead of creating another job. If not, and the caller asks for it, the job is
-- cancelled after the grace period, by the next process that looks for overdue jobs: see job_end.lua. If another client
-- waits for the same job, only the number of these clients changes.
-- ARGV: job id, owner, digest of the body, grace_ms (0: no grace period), 1 to cancel the job after the grace period
--       or 0 to let the job continue
--- @include "clock"
--- @include "job_end"
local MAX_ABANDONED = 100
local job_id, owner, body_digest, grace_ms, is_cancelled = unpack(ARGV)
grace_ms, is_cancelled = tonumber(grace_ms), is_cancelled == '1'
local total, job_owner, finished_ms, finished_early_as, deadline_ms, joined = unpack(redis.call('HMGET', JOB .. job_id,
  'total', 'owner', 'finished_ms', 'finished_early_as', 'deadline_ms', 'joined'))
if not total or job_owner ~= owner or finished_early_as then return end
if joined and tonumber(joined) > 0 then -- another client waits for the same live call
  redis.call('HINCRBY', JOB .. job_id, 'joined', -1)
  return
end
if grace_ms == 0 then
  if is_cancelled and not finished_ms then end_early(job_id, 'cancelled') end
  return
end

local abandoned, until_ms = ABANDONED .. owner .. ':' .. body_digest, now_ms + grace_ms
redis.call('HSET', JOB .. job_id, 'abandoned_until_ms', ms(until_ms), 'grace_ms', grace_ms)
redis.call('LREM', abandoned, 0, job_id) -- this call may be a repetition
redis.call('RPUSH', abandoned, job_id)
-- An older job is cancelled, or continues, but cannot be found any more.
redis.call('LTRIM', abandoned, -MAX_ABANDONED, -1)
redis.call('PEXPIRE', abandoned, math.ceil(grace_ms))
if is_cancelled and not finished_ms and not (deadline_ms and tonumber(deadline_ms) < until_ms) then
  redis.call('ZADD', JOB_DEADLINES, ms(until_ms), job_id)
  redis.call('PUBLISH', WAKE, '') -- the workers' next rounds take the time into account
end
