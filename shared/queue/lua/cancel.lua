#!lua flags=allow-oom
-- Ends every unfinished item of a job at once, and tells the workers that run some.
-- ARGV: job id, owner
-- Returns: 1, or 0 if the owner has no such job.
local job, owner = ARGV[1], ARGV[2]
local total, of, finished_ms = unpack(redis.call('HMGET', JOB .. job, 'total', 'owner', 'finished_ms'))
if not total or of ~= owner then return 0 end
if not finished_ms then cut_off(job, clock(), 'cancelled') end
return 1
