#!lua flags=no-writes
-- One consistent look at a job.
-- ARGV: job id, most (items whose results come with it)
-- Returns: nil if there is no such job, else {fields as in the HMGET below, counts of items that have a result,
--          that failed, that are queued, {result, tries} of its webhook once that is due, and the meta and results
--          hash of a job of up to so many items}.
local job, most = ARGV[1], tonumber(ARGV[2])
local fields = redis.call('HMGET', JOB .. job, 'total', 'owner', 'lanes', 'aside', 'accepted_ms', 'started_ms',
  'finished_ms', 'ended_as', 'deadline_ms', 'latency_us', 'retry_of', 'retried_as', 'webhook', 'counts')
if not fields[1] or not fields[3] then return nil end

local queued = tonumber(fields[4] or 0)
for lane in string.gmatch(fields[3], '%S+') do queued = queued + redis.call('ZCARD', QUEUE .. lane .. ':' .. job) end
local delivery = false
if fields[13] and fields[7] then
  local id = job .. '.webhook'
  delivery = { redis.call('HGET', RESULTS .. id, 0), redis.call('HGET', TRIES .. id, 0) }
end
local reply = { fields, redis.call('LLEN', ENDED .. job), redis.call('SCARD', FAILED .. job), queued, delivery }
if tonumber(fields[1]) <= most then
  reply[6] = redis.call('HGET', JOB .. job, 'meta:0')
  reply[7] = redis.call('HGETALL', RESULTS .. job)
end
return reply
