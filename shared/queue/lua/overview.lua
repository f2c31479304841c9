#!lua flags=no-writes
-- One look at all lanes and workers.
-- ARGV: most_jobs (looked at per lane for the oldest item), most_lost (workers), then lanes
-- Returns: now in ms, {worker, the time it counts as dead, …}, {worker, its last report or false, …},
--          then per lane {in flight, queued, deferred, accepted_ms of the oldest that may run or false,
--          ms until which it is paused or false, reason or false}
--- @include "clock"
local most_jobs = tonumber(ARGV[1])

local function oldest(lane)
  local accepted_ms
  local function look(accepted)
    accepted = tonumber(accepted)
    if accepted and not (accepted_ms and accepted_ms < accepted) then accepted_ms = accepted end
  end
  for _, owner in ipairs(redis.call('ZRANGE', FAIR_QUEUE .. lane, 0, most_jobs)) do
    for _, class in ipairs({ 'interactive', 'bulk' }) do
      for _, job in ipairs(redis.call('ZRANGE', FAIR_QUEUE .. lane .. ':' .. owner .. ':' .. class, 0, most_jobs)) do
        most_jobs = most_jobs - 1
        if most_jobs < 0 then return accepted_ms end
        if redis.call('EXISTS', QUEUE .. lane .. ':' .. job) == 1 then look(redis.call('HGET', JOB .. job, 'accepted_ms')) end
      end
    end
  end
  look(redis.call('ZRANGE', QUARANTINE .. lane, 0, 0, 'WITHSCORES')[2])
  return accepted_ms
end

local reports, most_lost = {}, tonumber(ARGV[2])
for _, worker in ipairs(redis.call('ZREVRANGE', WORKER_LAST_SEEN, 0, -1)) do
  if not redis.call('ZSCORE', WORKERS, worker) then most_lost = most_lost - 1 end
  if most_lost >= 0 or redis.call('ZSCORE', WORKERS, worker) then
    reports[#reports + 1], reports[#reports + 2] = worker, redis.call('GET', WORKER_REPORT .. worker)
  end
end
local reply = { ms(now), redis.call('ZRANGE', WORKERS, 0, -1, 'WITHSCORES'), reports }
for i = 3, #ARGV do
  local lane = ARGV[i]
  local queued = redis.call('ZCARD', QUARANTINE .. lane)
  for _, count in ipairs(redis.call('HVALS', DEPTH .. lane)) do queued = queued + count end
  local accepted_ms = queued > 0 and oldest(lane)
  reply[#reply + 1] = { redis.call('ZCARD', LEASES .. lane), queued, redis.call('ZCARD', DEFERRED .. lane),
    accepted_ms and ms(accepted_ms) or false, unpack(redis.call('HMGET', PAUSE .. lane, 'until_ms', 'reason')) }
end
return reply
