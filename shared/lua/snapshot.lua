#!lua flags=no-writes
-- One consistent look at a job.
-- ARGV: job id
-- Returns: nil if there is no such job, else {job hash, results hash, how many of its items run}.
local job = ARGV[1]
local fields = redis.call('HGETALL', JOB .. job)
if #fields == 0 then return nil end

local running = 0
if redis.call('HEXISTS', JOB .. job, 'finished_ms') == 0 then
  for index = 0, redis.call('HGET', JOB .. job, 'total') - 1 do
    local item = string.format('%s:%05d', job, index)
    local lane, claims = unpack(redis.call('HMGET', ITEM .. item, 'lane', 'claims'))
    if lane and claims and redis.call('ZSCORE', LEASES .. lane, item .. '@' .. claims) then
      running = running + 1
    end
  end
end
return { fields, redis.call('HGETALL', RESULTS .. job), running }
