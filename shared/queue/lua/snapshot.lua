#!lua flags=no-writes
-- Reads a job at one moment.
-- ARGV: job id, max_items (of a job up to this size, results come with it)
-- Returns: nil if there is no such job, else {the fields of the HMGET below, count of finished items, of failed ones, of
--          queued ones, {result, failed attempts} of its webhook's delivery or false, and of a job of up to max_items
--          meta and the hash of results}
--- @include "attempts"
local job, max_items = ARGV[1], tonumber(ARGV[2])
local fields = redis.call('HMGET', JOB .. job, 'total', 'owner', 'accepted_ms', 'started_ms', 'finished_ms',
  'finished_early_as', 'deadline_ms', 'latency_us', 'retry_of', 'retried_as', 'webhook_url', 'items_by_lane')
local lanes, parked = unpack(redis.call('HMGET', JOB .. job, 'lanes', 'parked'))
local total, finished_ms, webhook_url = fields[1], fields[5], fields[11]
if not total or not lanes then return nil end

local queued = tonumber(parked or 0)
for lane in string.gmatch(lanes, '%S+') do queued = queued + redis.call('ZCARD', QUEUE .. lane .. ':' .. job) end
local delivery = false
if webhook_url and finished_ms then
  local id = job .. DELIVERY_SUFFIX
  local failed = parse_attempts(redis.call('HGET', ATTEMPTS .. id, 0))
  delivery = { redis.call('HGET', RESULTS .. id, 0), tonumber(failed) }
end
local reply = { fields, redis.call('LLEN', COMPLETION_ORDER .. job), redis.call('SCARD', FAILED .. job), queued, delivery }
if tonumber(total) <= max_items then
  reply[6] = redis.call('HGET', JOB .. job, 'meta:0')
  reply[7] = redis.call('HGETALL', RESULTS .. job)
end
return reply
