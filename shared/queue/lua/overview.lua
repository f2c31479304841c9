#!lua flags=no-writes
-- Reads all lanes and workers at one moment.
-- ARGV: max_jobs (searched per lane for the oldest item), max_lost (lost workers to return), then lanes
-- Returns: {now in ms, {worker, ms after which it counts as lost, …}, {worker, its last report or false, …},
--          then per lane {calls in flight, queued items, deferred items, ms when the oldest queued one was accepted or
--          false, ms until which the lane is paused or false, reason of the pause or false}}
--- @include "clock"
local max_jobs, max_lost = tonumber(ARGV[1]), tonumber(ARGV[2])

-- Returns when the oldest queued item of a lane was accepted, as far as max_jobs jobs tell, or nil.
local function oldest(lane)
  local accepted_ms
  local searched = 0
  local function consider(accepted)
    accepted = tonumber(accepted)
    if accepted and not (accepted_ms and accepted_ms < accepted) then accepted_ms = accepted end
  end
  for _, owner in ipairs(redis.call('ZRANGE', FAIR_QUEUE .. lane, 0, max_jobs)) do
    for _, class in ipairs({ 'interactive', 'bulk' }) do
      for _, job in ipairs(redis.call('ZRANGE', FAIR_QUEUE .. lane .. ':' .. owner .. ':' .. class, 0, max_jobs)) do
        searched = searched + 1
        if searched > max_jobs then return accepted_ms end
        if redis.call('EXISTS', QUEUE .. lane .. ':' .. job) == 1 then
          consider(redis.call('HGET', JOB .. job, 'accepted_ms'))
        end
      end
    end
  end
  consider(redis.call('ZRANGE', QUARANTINE .. lane, 0, 0, 'WITHSCORES')[2])
  return accepted_ms
end

local function read_lane(lane)
  local queued = redis.call('ZCARD', QUARANTINE .. lane)
  for _, count in ipairs(redis.call('HVALS', DEPTH .. lane)) do queued = queued + count end
  local accepted_ms = queued > 0 and oldest(lane)
  return { redis.call('ZCARD', LEASES .. lane), queued, redis.call('ZCARD', DEFERRED .. lane),
    accepted_ms and ms(accepted_ms) or false, unpack(redis.call('HMGET', PAUSE .. lane, 'until_ms', 'reason')) }
end

local reports, lost = {}, 0
for _, worker in ipairs(redis.call('ZREVRANGE', WORKER_LAST_SEEN, 0, -1)) do
  local present = redis.call('ZSCORE', WORKERS, worker)
  if not present then lost = lost + 1 end
  if present or lost <= max_lost then
    reports[#reports + 1], reports[#reports + 2] = worker, redis.call('GET', WORKER_REPORT .. worker)
  end
end
local reply = { ms(now), redis.call('ZRANGE', WORKERS, 0, -1, 'WITHSCORES'), reports }
for i = 3, #ARGV do reply[#reply + 1] = read_lane(ARGV[i]) end
return reply
