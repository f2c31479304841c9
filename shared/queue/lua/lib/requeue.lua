--- @include "ids"
--- @include "fair_queue"
--- @include "job_cache"
--- @include "attempts"
--- @include "fallbacks"
--- @include "write_results"
-- Moves items between QUEUE, QUARANTINE and DEFERRED. Items in QUARANTINE and DEFERRED are *parked*: the job's field
-- `parked` counts them. `job` is a table from job_cache.lua.
-- Defines for other files: park, unpark, requeue

local function park(zset, lane, job, index, number, score)
  redis.call('ZADD', zset .. lane, score, item_of(job.id, index, number))
  redis.call('HINCRBY', JOB .. job.id, 'parked', 1)
end

-- Subtracts an item, which the caller has removed from QUARANTINE or DEFERRED, from the job's field `parked`. Returns
-- the item's job, its index and the number of its route.
local function unpark(item)
  local id, index, number = split_item(item)
  local job = load_job(id)
  if job.exists then redis.call('HINCRBY', JOB .. id, 'parked', -1) end
  return job, index, number
end

-- Puts an item back at its old place in QUEUE. If the item would fail after one more worker loss, it goes to QUARANTINE
-- instead: see shared/queue/claims.py. If the job has ended, the item is dropped. If a client may have read a part of
-- the item's answer, the item fails, because another run would give another answer: see append_deltas.lua.
local function requeue(lane, job, index, number)
  if not job.is_unfinished then return end
  if redis.call('HEXISTS', JOB .. job.id, 'deltas') == 1 then
    local model = model_of(routes_of(job, lane)[number] or '')
    finish_failed(lane, model, job, index, BROKEN_STREAM_RESULT, 'worker_lost', 0)
    return
  end
  local _, _, losses = read_attempts(job, index)
  if count_losses(losses) >= MAX_WORKER_LOSSES - 1 then
    park(QUARANTINE, lane, job, index, number, job.accepted_ms)
  else
    local routes = routes_of(job, lane)
    redis.call('ZADD', queue_of(lane, job.id, routes[number]), index, index)
    enqueue(lane, job.id, job.owner, job.priority_class, 1, routes[2] and routes[number])
  end
end
