#!lua flags=allow-oom
-- A worker's heartbeat: renews the leases that it still holds.
-- ARGV: worker id, lease_ms (without a heartbeat for as long, the worker counts as lost, too),
--       then per lease: lane, lease
-- Returns: the leases whose calls must stop, because they are not held any more or their job has finished
--- @include "layout"
--- @include "clock"
--- @include "ids"
local worker, lease_ms = ARGV[1], tonumber(ARGV[2])
redis.call('ZADD', WORKERS, now + lease_ms, worker)
redis.call('ZREMRANGEBYSCORE', WORKERS, '-inf', now)

local stop, known = {}, {}
local function is_unfinished(job)
  if known[job] == nil then
    local total, finished_ms = unpack(redis.call('HMGET', JOB .. job, 'total', 'finished_ms'))
    known[job] = total and not finished_ms
  end
  return known[job]
end

for i = 3, #ARGV, 2 do
  local leases, lease = LEASES .. ARGV[i], ARGV[i + 1]
  local held = redis.call('ZSCORE', leases, lease)
  if held then redis.call('ZADD', leases, 'XX', now + lease_ms, lease) end
  if not held or not is_unfinished((split_lease(lease))) then stop[#stop + 1] = lease end
end
return stop
