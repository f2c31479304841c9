--- @include "clock"
--- @include "fair_queue"
-- The end of a job: when its last item has finished, when it is cancelled, at its deadline.

-- Removes up to `limit` jobs whose results have expired from the lists of their owners.
local function forget_expired(limit)
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', JOB_EXPIRATIONS, '-inf', now, 'LIMIT', 0, limit)) do
    local owner, job = string.match(entry, '^(%S*) (.+)$')
    redis.call('ZREM', JOBS_BY_OWNER .. owner, job)
    redis.call('ZREM', JOB_EXPIRATIONS, entry)
  end
end

-- A delivery is the only item of a job of its own, in a lane of its own.
local function enqueue_webhook(job, owner, payload, result_ttl_s)
  local delivery = job .. DELIVERY_SUFFIX
  redis.call('HSET', JOB .. delivery, 'total', 1, 'lanes', WEBHOOK_LANE, 'owner', owner, 'priority_class', 'bulk',
    'result_ttl_s', result_ttl_s, 'accepted_ms', ms(now))
  redis.call('HSET', PAYLOADS .. delivery, 0, payload)
  redis.call('ZADD', QUEUE .. WEBHOOK_LANE .. ':' .. delivery, 0, 0)
  enqueue(WEBHOOK_LANE, delivery, owner, 'bulk', 1)
  redis.call('PUBLISH', WAKE, '')
end

-- Finishes a job. `early_as` is what becomes of its unfinished items, if it has any: see finish_early.
local function finish_job(job, early_as)
  local ttl_s, owner, deadline_ms, webhook, key, key_ttl_s = unpack(redis.call('HMGET', JOB .. job, 'result_ttl_s',
    'owner', 'deadline_ms', 'webhook_payload', 'idempotency_key', 'idempotency_ttl_s'))
  redis.call('HSET', JOB .. job, 'finished_ms', ms(now))
  if early_as then redis.call('HSET', JOB .. job, 'finished_early_as', early_as) end
  if deadline_ms then redis.call('ZREM', JOB_DEADLINES, job) end
  for _, key in ipairs({ JOB, PAYLOADS, ATTEMPTS, RESULTS, COMPLETION_ORDER, FAILED }) do
    redis.call('EXPIRE', key .. job, ttl_s)
  end
  if key then redis.call('EXPIRE', IDEMPOTENCY .. owner .. ':' .. key, key_ttl_s) end
  redis.call('ZADD', JOB_EXPIRATIONS, ms(now + ttl_s * 1000), owner .. ' ' .. job)
  forget_expired(2)
  redis.call('PUBLISH', JOB_FINISHED, job)
  if webhook then enqueue_webhook(job, owner, webhook, ttl_s) end
end

-- Finishes a job at once, `early_as` 'cancelled' or 'deadline_exceeded'. Its open leases stay until the workers have
-- stopped the calls: the provider still works on those, so they still count against the limit.
local function finish_early(job, early_as)
  local lanes, owner = unpack(redis.call('HMGET', JOB .. job, 'lanes', 'owner'))
  for lane in string.gmatch(lanes, '%S+') do
    local queue = QUEUE .. lane .. ':' .. job
    local queued = redis.call('ZCARD', queue)
    if queued > 0 then
      redis.call('UNLINK', queue)
      dequeue(lane, owner, queued)
    end
  end
  finish_job(job, early_as)
  redis.call('PUBLISH', JOB_CANCELLED, job)
end

-- Finishes jobs past their deadlines. Returns the next deadline, or nil.
local function finish_overdue_jobs()
  local deadline = earliest(JOB_DEADLINES)
  if not deadline or deadline > now then return deadline end
  for _, job in ipairs(redis.call('ZRANGEBYSCORE', JOB_DEADLINES, '-inf', now, 'LIMIT', 0, 100)) do
    finish_early(job, 'deadline_exceeded')
  end
  return earliest(JOB_DEADLINES)
end
