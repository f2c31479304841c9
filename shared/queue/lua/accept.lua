#!lua
-- Stores the next items of a job. The call with the last items creates the job, and its items may run. Until then, the
-- items are *staged*: no other script sees them, and they expire unless another call follows. Repeating a call changes
-- nothing.
-- ARGV: [1] upload as JSON: job (id), first (index of the first item of this call), staging_ttl_s (seconds after which
--           staged items expire), routes (per lane, a list of {route, number of its items so far}: see fair_queue.lua);
--           bytes (of all payloads so far), owner and staged_bytes (of the payloads of the earlier calls: see
--           staged_bytes.lua);
--           in calls before the last items, if the upload may be refused early, limits (max_depth, max_bytes and
--           idempotency_key of the submission);
--           in the call with the last items submission: owner, priority_class, result_ttl_s, max_depth (limit of queued
--           items per owner and lane), max_bytes (see owner_bytes.lua), and
--           if given deadline_s, idempotency_key, idempotency_ttl_s, fingerprint, retry_of, webhook_url,
--           webhook_payload, follow_s, body_digest (finds the job of a disconnected client: see repeated_calls.lua),
--           is_live (a repetition can join this job), is_repetition (the client repeats a request), format (of the
--           requests; absent if native), batch (options of OpenAI's batch API, as JSON), file_id, file_use and
--           file_seen (the file of the batch, a digest of the request, and the file's last batch when the request
--           began: see file_use.lua)
--       [2] meta of a block of up to 500 items as JSON, in the call that completes the block; otherwise ''
--       then two values per item: lane, followed by a space and the number of the route unless the number is 1; payload
-- Returns: {'accepted', id of the job, or of the earlier job to which the submission belongs: a job with the same
--          idempotency key, the last batch of the file, a job of a disconnected client, or a live call},
--          {'staged', ''} before the last items,
--          or a refusal: {'queue_full', lane}, {'bytes_full', ''},
--          {'conflict', ''} (the idempotency key was used for another submission),
--          {'expired', ''} (earlier items have expired), {'retried', id of the earlier retry of the same job}
--- @include "layout"
--- @include "clock"
--- @include "fair_queue"
--- @include "repeated_calls"
--- @include "file_use"
--- @include "owner_bytes"
--- @include "staged_bytes"
local upload, meta = cjson.decode(ARGV[1]), ARGV[2]
local job, first, routes, submission = upload.job, upload.first, upload.routes, upload.submission
if redis.call('HEXISTS', JOB .. job, 'total') == 1 then return { 'accepted', job } end

-- Calls use(queue, count) for each queue of the job.
local function for_each_queue(use)
  for lane, lane_routes in pairs(routes) do
    for _, route in ipairs(lane_routes) do use(queue_of(lane, job, route[1]), route[2]) end
  end
end

local function refuse(...)
  redis.call('UNLINK', JOB .. job, PAYLOADS .. job)
  for_each_queue(function(queue) redis.call('UNLINK', queue) end)
  return { ... }
end

if first > 0 then unstage(upload.owner, job, upload.staged_bytes) end
if not submission then unstage(upload.owner, job, upload.bytes) end -- this call may be repeated

-- The call with the last items decides whether a submission with a known idempotency key gets the earlier job. Until
-- then, such a submission is not refused.
local limits = upload.limits
if limits and not (limits.idempotency_key
    and redis.call('EXISTS', IDEMPOTENCY .. upload.owner .. ':' .. limits.idempotency_key) == 1) then
  if not has_room(upload.owner, upload.bytes, limits.max_bytes) then return refuse('bytes_full', '') end
  for lane, lane_routes in pairs(routes) do
    local count = tonumber(redis.call('HGET', DEPTH .. lane, upload.owner) or 0)
    for _, route in ipairs(lane_routes) do count = count + route[2] end
    if count > limits.max_depth then return refuse('queue_full', lane) end
  end
end

local payloads, queues = {}, {}
for i = 3, #ARGV, 2 do
  local place, index = ARGV[i], first + (i - 3) / 2
  queues[place] = queues[place] or {}
  payloads[#payloads + 1], payloads[#payloads + 2] = index, ARGV[i + 1]
  table.insert(queues[place], index) -- the score
  table.insert(queues[place], index) -- the member
end
if #payloads > 0 then redis.call('HSET', PAYLOADS .. job, unpack(payloads)) end
for place, members in pairs(queues) do
  local lane, number = string.match(place, '^(%S+) ?(%d*)$')
  redis.call('ZADD', queue_of(lane, job, routes[lane][tonumber(number) or 1][1]), unpack(members))
end
if meta ~= '' then redis.call('HSET', JOB .. job, 'meta:' .. math.floor(first / META_ITEMS), meta) end

if not submission then
  forget_expired_uploads(2) -- two for each call, so that expired entries cannot accumulate
  stage(upload.owner, job, upload.bytes, upload.staging_ttl_s)
  redis.call('EXPIRE', JOB .. job, upload.staging_ttl_s)
  redis.call('EXPIRE', PAYLOADS .. job, upload.staging_ttl_s)
  for_each_queue(function(queue) redis.call('EXPIRE', queue, upload.staging_ttl_s) end)
  return { 'staged', '' }
end

local function version_of(fingerprint) return string.match(fingerprint, '^(%d+):') end

local owner, retry_of = submission.owner, submission.retry_of
local key = submission.idempotency_key and IDEMPOTENCY .. owner .. ':' .. submission.idempotency_key
local known = key and redis.call('GET', key)
if known then
  local fingerprint, created = string.match(known, '^(%S+) (.+)$')
  -- Fingerprints of different versions cannot be compared, so the key alone finds the job.
  local is_comparable = version_of(fingerprint) == version_of(submission.fingerprint)
  if is_comparable and fingerprint ~= submission.fingerprint then return refuse('conflict', '') end
  return refuse('accepted', created)
end
local file = submission.file_id and FILE .. submission.file_id
if file then
  local created = earlier_use(file, submission.file_use, submission.is_repetition, submission.file_seen)
  if created then return refuse('accepted', created) end
end
local adopted = submission.body_digest and (adopt(owner, submission.body_digest)
  or submission.is_repetition and join(owner, submission.body_digest))
if adopted then return refuse('accepted', adopted) end
local retried_as = retry_of and redis.call('HGET', JOB .. retry_of, 'retried_as')
if retried_as then return refuse('retried', retried_as) end

local total, items_by_lane, names_by_lane, has_expired = 0, {}, {}, false
for lane, lane_routes in pairs(routes) do
  local count, names = 0, {}
  for number, route in ipairs(lane_routes) do names[number], count = route[1], count + route[2] end
  items_by_lane[lane], names_by_lane[lane], total = count, names, total + count
  local depth = tonumber(redis.call('HGET', DEPTH .. lane, owner) or 0)
  if depth + count > submission.max_depth then return refuse('queue_full', lane) end
end
if first > 0 then
  for_each_queue(function(queue, count) has_expired = has_expired or redis.call('ZCARD', queue) ~= count end)
  if has_expired then return refuse('expired', '') end
end
if first > 0 and redis.call('HLEN', PAYLOADS .. job) ~= total then return refuse('expired', '') end

if not has_room(owner, upload.bytes, submission.max_bytes) then return refuse('bytes_full', '') end
redis.call('HINCRBY', QUEUE_BYTES, owner, upload.bytes) -- end_job subtracts the bytes

redis.call('HSET', JOB .. job, 'bytes', upload.bytes, 'total', total, 'routes', cjson.encode(names_by_lane),
  'owner', owner, 'priority_class', submission.priority_class, 'result_ttl_s', submission.result_ttl_s,
  'accepted_ms', ms(now_ms), 'items_by_lane',
  cjson.encode(items_by_lane))
if first > 0 then
  redis.call('PERSIST', JOB .. job)
  redis.call('PERSIST', PAYLOADS .. job)
end
redis.call('ZADD', JOBS_BY_OWNER .. owner, ms(now_ms), job)
if submission.priority_class == 'bulk' then redis.call('ZADD', BATCHES_BY_OWNER .. owner, ms(now_ms), job) end
if submission.batch then redis.call('HSET', JOB .. job, 'batch', submission.batch) end
if file then store_use(file, submission.file_use, submission.is_repetition, job) end
if submission.deadline_s then
  local deadline_ms = ms(now_ms + submission.deadline_s * 1000)
  redis.call('HSET', JOB .. job, 'deadline_ms', deadline_ms)
  redis.call('ZADD', JOB_DEADLINES, deadline_ms, job)
end
if submission.follow_s then
  redis.call('HSET', JOB .. job, 'progress_until_ms', ms(now_ms + submission.follow_s * 1000))
end
if submission.is_live and submission.body_digest then
  redis.call('HSET', JOB .. job, 'live_digest', submission.body_digest)
  add_live_call(LIVE_CALLS .. owner .. ':' .. submission.body_digest, job)
end
if submission.format then redis.call('HSET', JOB .. job, 'format', submission.format) end
if submission.webhook_url then
  redis.call('HSET', JOB .. job, 'webhook_url', submission.webhook_url, 'webhook_payload', submission.webhook_payload)
end
if key then -- when the job ends, the key gets a shorter time to live
  local until_end_s = submission.deadline_s or MAX_KEY_S
  local ttl_s = math.ceil(until_end_s + submission.idempotency_ttl_s)
  redis.call('SET', key, submission.fingerprint .. ' ' .. job, 'EX', ttl_s)
  redis.call('HSET', JOB .. job, 'idempotency_key', submission.idempotency_key, 'idempotency_ttl_s',
    submission.idempotency_ttl_s)
end
if retry_of then
  redis.call('HSET', JOB .. job, 'retry_of', retry_of)
  if redis.call('EXISTS', JOB .. retry_of) == 1 then -- the retried job may have expired a moment ago
    redis.call('HSET', JOB .. retry_of, 'retried_as', job)
    redis.call('UNLINK', PAYLOADS .. retry_of)
  end
end
if first > 0 then for_each_queue(function(queue) redis.call('PERSIST', queue) end) end
for lane, lane_routes in pairs(routes) do
  for _, route in ipairs(lane_routes) do
    enqueue(lane, job, owner, submission.priority_class, route[2], lane_routes[2] and route[1])
  end
end
redis.call('PUBLISH', WAKE, '')
return { 'accepted', job }
