#!lua flags=allow-oom
-- Renews a worker's leases, and marks the worker as alive.
-- ARGV: worker id, lease_ms (a worker that does not renew for this time is lost), then per lease: lane, lease
-- Returns: the leases whose calls must stop, because the lease was removed or the job has ended
--- @include "layout"
--- @include "clock"
--- @include "ids"
--- @include "deployments"
local worker, lease_ms = ARGV[1], tonumber(ARGV[2])
redis.call('ZADD', WORKERS, now_ms + lease_ms, worker)
redis.call('ZREMRANGEBYSCORE', WORKERS, '-inf', now_ms)

local to_stop, known = {}, {}
local function is_unfinished(job_id)
  if known[job_id] == nil then
    local total, finished_ms = unpack(redis.call('HMGET', JOB .. job_id, 'total', 'finished_ms'))
    known[job_id] = total and not finished_ms
  end
  return known[job_id]
end

for i = 3, #ARGV, 2 do
  local leases, lease = LEASES .. ARGV[i], ARGV[i + 1]
  local exists = redis.call('ZSCORE', leases, lease)
  if exists then
    redis.call('ZADD', leases, 'XX', now_ms + lease_ms, lease)
    local _, _, _, provider = served_by(lease, ARGV[i])
    if provider ~= ARGV[i] then redis.call('ZADD', LEASES .. provider, 'XX', now_ms + lease_ms, lease) end
  end
  if not exists or not is_unfinished((split_lease(lease))) then to_stop[#to_stop + 1] = lease end
end
return to_stop
