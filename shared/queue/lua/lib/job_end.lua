--- @include "clock"
--- @include "hash_counts"
--- @include "fair_queue"
--- @include "work_limit"
-- Ends jobs: completes a job whose items have all finished, and ends a job early if it was cancelled, if its deadline
-- has passed or if its client has disconnected.
-- Defines for other files: forget_expired, end_job, end_early, end_overdue_jobs
-- Used in each round: end_overdue_jobs

local LIVE_CALL_KEPT_S = 15 -- more than JOIN_ANSWERED_MS in repeated_calls.lua

-- Removes up to `limit` jobs whose results have expired from the sorted sets of jobs. Returns their number.
local function forget_expired(limit)
  local entries = redis.call('ZRANGEBYSCORE', JOB_EXPIRATIONS, '-inf', now_ms, 'LIMIT', 0, limit)
  for _, entry in ipairs(entries) do
    local owner, job_id = string.match(entry, '^(%S*) (.+)$')
    redis.call('ZREM', JOBS_BY_OWNER .. owner, job_id)
    redis.call('ZREM', BATCHES_BY_OWNER .. owner, job_id)
    redis.call('ZREM', JOB_EXPIRATIONS, entry)
  end
  return #entries
end

-- Queues the delivery of a job's webhook. A delivery is a job with one item in the lane WEBHOOK_LANE.
local function enqueue_webhook(job_id, owner, payload, result_ttl_s)
  local delivery = job_id .. DELIVERY_SUFFIX
  redis.call('HSET', JOB .. delivery, 'total', 1, 'routes', cjson.encode({ [WEBHOOK_LANE] = { '' } }), 'owner', owner,
    'priority_class', 'bulk', 'result_ttl_s', result_ttl_s, 'accepted_ms', ms(now_ms))
  redis.call('HSET', PAYLOADS .. delivery, 0, payload)
  redis.call('ZADD', queue_of(WEBHOOK_LANE, delivery, ''), 0, 0)
  enqueue(WEBHOOK_LANE, delivery, owner, 'bulk', 1)
  redis.call('PUBLISH', WAKE, '')
end

-- Ends a job. `error_code` is the error code of the items without a result; nil if all items have finished.
local function end_job(job_id, error_code)
  local ttl_s, owner, deadline_ms, webhook, key, key_ttl_s, abandoned_until_ms, live_digest, bytes =
    unpack(redis.call('HMGET', JOB .. job_id, 'result_ttl_s', 'owner', 'deadline_ms', 'webhook_payload',
      'idempotency_key', 'idempotency_ttl_s', 'abandoned_until_ms', 'live_digest', 'bytes'))
  redis.call('HSET', JOB .. job_id, 'finished_ms', ms(now_ms))
  if bytes then add_to_count(QUEUE_BYTES, owner, -bytes) end
  if error_code then redis.call('HSET', JOB .. job_id, 'finished_early_as', error_code) end
  if deadline_ms or abandoned_until_ms then redis.call('ZREM', JOB_DEADLINES, job_id) end
  for _, prefix in ipairs({ JOB, PAYLOADS, ATTEMPTS, MOVED, RESULTS, COMPLETION_ORDER, FAILED }) do
    redis.call('EXPIRE', prefix .. job_id, ttl_s)
  end
  if live_digest then
    local live_calls = LIVE_CALLS .. owner .. ':' .. live_digest
    -- If no other live call has this body, the list expires soon: see repeated_calls.lua. Otherwise each body would
    -- keep a key in Redis until LIVE_CALL_TTL_S.
    if redis.call('LLEN', live_calls) == 1 then redis.call('EXPIRE', live_calls, LIVE_CALL_KEPT_S) end
  end
  if key then redis.call('EXPIRE', IDEMPOTENCY .. owner .. ':' .. key, key_ttl_s) end
  redis.call('ZADD', JOB_EXPIRATIONS, ms(now_ms + ttl_s * 1000), owner .. ' ' .. job_id)
  forget_expired(2) -- two for each new entry, so that expired entries cannot accumulate
  redis.call('PUBLISH', JOB_FINISHED, job_id)
  if webhook then enqueue_webhook(job_id, owner, webhook, ttl_s) end
end

-- Ends a job early; `error_code` is 'cancelled' or 'deadline_exceeded'. The job's leases stay until the workers have
-- stopped the calls: until then the provider works on the calls, so the leases must count against the limit.
local function end_early(job_id, error_code)
  local routes, owner = unpack(redis.call('HMGET', JOB .. job_id, 'routes', 'owner'))
  for lane, names in pairs(cjson.decode(routes)) do
    for _, route in ipairs(names) do
      local queue = queue_of(lane, job_id, route)
      local queued = redis.call('ZCARD', queue)
      spend(3)
      if queued > 0 then
        redis.call('UNLINK', queue)
        dequeue(lane, owner, queued)
      end
    end
  end
  end_job(job_id, error_code)
  redis.call('PUBLISH', JOB_CANCELLED, job_id) -- the workers stop the job's calls, after a deadline, too
end

-- Ends jobs whose deadline, or grace period (see abandon.lua), has passed: up to 20 jobs, as work_limit.lua permits.
-- Returns the next time at which a deadline or a grace period passes, or nil. This time has passed if jobs are left.
local function end_overdue_jobs()
  local deadline = earliest(JOB_DEADLINES)
  if not deadline or deadline > now_ms then return deadline end
  for _, job_id in ipairs(redis.call('ZRANGEBYSCORE', JOB_DEADLINES, '-inf', now_ms, 'LIMIT', 0, 20)) do
    if not has_work_left() then break end
    spend(30)
    local deadline_ms, is_abandoned = unpack(redis.call('HMGET', JOB .. job_id, 'deadline_ms', 'abandoned_until_ms'))
    local is_overdue = not is_abandoned or deadline_ms and tonumber(deadline_ms) <= now_ms
    end_early(job_id, is_overdue and 'deadline_exceeded' or 'cancelled')
  end
  return earliest(JOB_DEADLINES)
end
