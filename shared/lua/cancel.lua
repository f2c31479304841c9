#!lua flags=allow-oom
-- Ends every unfinished item of a job at once. Leases of running calls stay until their workers have
-- stopped them: the provider still works on those, so they still count against the limit.
-- ARGV: job id, result of a cancelled item
-- Returns: 1, or 0 if there is no such job.
local job, result = ARGV[1], ARGV[2]
local total, finished = unpack(redis.call('HMGET', JOB .. job, 'total', 'finished_ms'))
if not total then return 0 end
if finished then return 1 end

local now = clock()
redis.call('HSET', JOB .. job, 'cancelled_ms', ms(now))
for index = 0, total - 1 do
  local item = string.format('%s:%05d', job, index)
  local lane = redis.call('HGET', ITEM .. item, 'lane')
  if lane then
    for _, line in ipairs({ QUEUE, QUARANTINE, DEFERRED }) do redis.call('ZREM', line .. lane, item) end
    end_item(item, result, now)
  end
end
redis.call('PUBLISH', CANCELLED, job)
return 1
