#!lua flags=allow-oom
-- Appends a part to the streamed answer of a live call, whose job has one item. From the first part on, the item does
-- not run again: see requeue.lua.
-- ARGV: lane, lease, position (number of parts that this worker has appended), ttl_s (time for which the parts are
--       kept), part ('' only sets the time)
-- Returns: 1; or 0 if the lease or the job has ended, so that nothing was appended
--- @include "ids"
local lane, lease, position, ttl_s, part = unpack(ARGV)
local id = split_lease(lease)
local deltas, job = DELTAS .. id, JOB .. id
if not redis.call('ZSCORE', LEASES .. lane, lease) or redis.call('HEXISTS', job, 'finished_ms') == 1 then return 0 end
-- A part may have been appended although the reply was lost.
if part ~= '' and redis.call('LLEN', deltas) == tonumber(position) then
  redis.call('HSET', job, 'deltas', redis.call('RPUSH', deltas, part))
  redis.call('PUBLISH', JOB_PROGRESS, id)
end
redis.call('EXPIRE', deltas, ttl_s)
return 1
