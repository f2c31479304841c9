#!lua flags=allow-oom
-- Heartbeat of a worker: prolongs the leases it still holds.
-- ARGV: worker id, lease_ms (after as long without a heartbeat the worker counts as dead, too),
--       then per lease: lane, lease
-- Returns: the leases whose calls must stop, because they ended here or their job has ended.
local now = clock()
local worker, lease_ms = ARGV[1], tonumber(ARGV[2])
redis.call('ZADD', WORKERS, now + lease_ms, worker)
redis.call('ZREMRANGEBYSCORE', WORKERS, '-inf', now)

local stop, goes_on = {}, {}
local function unfinished(job)
  if goes_on[job] == nil then
    local total, finished_ms = unpack(redis.call('HMGET', JOB .. job, 'total', 'finished_ms'))
    goes_on[job] = total and not finished_ms
  end
  return goes_on[job]
end

for i = 3, #ARGV, 2 do
  local leases, lease = LEASES .. ARGV[i], ARGV[i + 1]
  local held = redis.call('ZSCORE', leases, lease)
  if held then redis.call('ZADD', leases, 'XX', now + lease_ms, lease) end
  if not held or not unfinished(string.match(lease, '^(.+):%d+@')) then stop[#stop + 1] = lease end
end
return stop
