#!lua flags=no-writes
-- Reads a job at one moment. Asking for another owner's job takes as long as asking for a job that does not exist: the
-- time must not reveal that the job exists.
-- ARGV: job id, owner, max_items (the meta of a job is returned only if it has at most max_items items), max_bytes (the
--       results are returned only if they take at most max_bytes of memory)
-- Returns: nil if the owner has no such job, else {
--            the fields of the first HMGET below,
--            number of finished items, number of failed items, number of queued items, number of the parked items among
--            the queued items (see requeue.lua),
--            false, or after the end of a job with a webhook {result of the delivery or false, its failed attempts},
--            and if the job has at most max_items items: its field meta:0, and the hash of its results if they take at
--            most max_bytes}
--- @include "attempts"
local job_id, owner, max_items, max_bytes = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local fields = redis.call('HMGET', JOB .. job_id, 'total', 'owner', 'accepted_ms', 'started_ms', 'finished_ms',
  'finished_early_as', 'deadline_ms', 'latency_us', 'retry_of', 'retried_as', 'webhook_url', 'items_by_lane', 'format')
if fields[2] ~= owner then return nil end
local routes, parked = unpack(redis.call('HMGET', JOB .. job_id, 'routes', 'parked'))
local total, finished_ms, webhook_url = fields[1], fields[5], fields[11]
if not total or not routes then return nil end

parked = tonumber(parked or 0)
local queued = parked
for lane, names in pairs(cjson.decode(routes)) do
  for _, route in ipairs(names) do
    queued = queued + redis.call('ZCARD', QUEUE .. lane .. ':' .. job_id .. ':' .. route)
  end
end
local delivery = false
if webhook_url and finished_ms then
  local id = job_id .. DELIVERY_SUFFIX
  local failed = parse_attempts(redis.call('HGET', ATTEMPTS .. id, 0))
  delivery = { redis.call('HGET', RESULTS .. id, 0), tonumber(failed) }
end
local reply = { fields, redis.call('LLEN', COMPLETION_ORDER .. job_id), redis.call('SCARD', FAILED .. job_id), queued,
  parked, delivery }
if tonumber(total) <= max_items then
  reply[7] = redis.call('HGET', JOB .. job_id, 'meta:0')
  -- Asking for the size of each result would take as long as reading them.
  local bytes = redis.call('MEMORY', 'USAGE', RESULTS .. job_id, 'SAMPLES', 0) or 0
  if bytes <= max_bytes then reply[8] = redis.call('HGETALL', RESULTS .. job_id) end
end
return reply
