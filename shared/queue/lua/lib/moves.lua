--- @include "clock"
--- @include "ids"
--- @include "fair_queue"
--- @include "job_cache"
--- @include "attempts"
-- Moves items between QUEUE, QUARANTINE and DEFERRED. Items in the latter two are parked; the job counts them.

local function park(zset, lane, job, index, score)
  redis.call('ZADD', zset .. lane, score, job.id .. ':' .. index)
  redis.call('HINCRBY', JOB .. job.id, 'parked', 1)
end

-- Counts an item that was taken from QUARANTINE or DEFERRED. Returns its job and index.
local function unpark(item)
  local id, index = split_item(item)
  local job = load_job(id)
  if job.exists then redis.call('HINCRBY', JOB .. id, 'parked', -1) end
  return job, index
end

-- Puts an item back at the place that it had. With one worker loss left it goes to the quarantine, of which a worker runs
-- one item at a time, so that an item that kills workers does not take its neighbours with it.
local function requeue(lane, job, index)
  if not job.unfinished then return end
  local _, _, losses = read_attempts(job, index)
  if count_losses(losses) >= MAX_WORKER_LOSSES - 1 then
    park(QUARANTINE, lane, job, index, job.accepted_ms)
  else
    redis.call('ZADD', QUEUE .. lane .. ':' .. job.id, index, index)
    enqueue(lane, job.id, job.owner, job.class, 1)
  end
end
