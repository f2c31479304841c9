#!lua flags=allow-oom
-- Heartbeat of a worker: prolongs the leases it still holds.
-- ARGV: worker id, lease_ms (after as long without a heartbeat the worker counts as dead, too),
--       then per lease: lane, lease
-- Returns: the leases whose calls must stop, because they ended here or their item has ended (cancelled).
local now = clock()
local worker, lease_ms = ARGV[1], tonumber(ARGV[2])
redis.call('ZADD', WORKERS, now + lease_ms, worker)
redis.call('ZREMRANGEBYSCORE', WORKERS, '-inf', now)

local stop = {}
for i = 3, #ARGV, 2 do
  local leases, lease = LEASES .. ARGV[i], ARGV[i + 1]
  local held = redis.call('ZSCORE', leases, lease)
  if held then redis.call('ZADD', leases, 'XX', now + lease_ms, lease) end
  if not held or redis.call('EXISTS', ITEM .. string.match(lease, '^(.+)@')) == 0 then stop[#stop + 1] = lease end
end
return stop
