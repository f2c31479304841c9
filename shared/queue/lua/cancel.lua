#!lua flags=allow-oom
-- Finishes every unfinished item of a job at once, and tells the workers that run some.
-- ARGV: job id, owner
-- Returns: 1, or 0 if the owner has no such job
--- @include "clock"
--- @include "job_end"
local job, owner = ARGV[1], ARGV[2]
local total, of, finished_ms = unpack(redis.call('HMGET', JOB .. job, 'total', 'owner', 'finished_ms'))
if not total or of ~= owner then return 0 end
if not finished_ms then finish_early(job, 'cancelled') end
return 1
