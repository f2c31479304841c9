#!lua flags=allow-oom
-- Stores a field of a job, unless the job has expired. No other script may depend on the field.
-- ARGV: job id, name of the field, value
local job_id, field, value = unpack(ARGV)
if redis.call('HEXISTS', JOB .. job_id, 'total') == 1 then redis.call('HSET', JOB .. job_id, field, value) end
