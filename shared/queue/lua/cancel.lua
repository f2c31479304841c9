#!lua flags=allow-oom
-- Cancels a job, and tells the workers to stop the job's calls. A job that has ended does not change.
-- ARGV: job id, owner
-- Returns: 1, or 0 if the owner has no such job
--- @include "job_end"
local job_id, owner = ARGV[1], ARGV[2]
local total, job_owner, finished_ms = unpack(redis.call('HMGET', JOB .. job_id, 'total', 'owner', 'finished_ms'))
if not total or job_owner ~= owner then return 0 end
if not finished_ms then end_early(job_id, 'cancelled') end
return 1
