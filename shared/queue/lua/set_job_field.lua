#!lua flags=allow-oom
-- Stores a field of a job on which nothing in the queue depends, unless the job has expired.
-- ARGV: job id, name of the field, value
local job_id, field, value = unpack(ARGV)
if redis.call('HEXISTS', JOB .. job_id, 'total') == 1 then redis.call('HSET', JOB .. job_id, field, value) end
