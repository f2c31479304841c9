#!lua
-- Stores the next items of a job; the last ones make it a job and let its items run. Until then it is nothing
-- that anybody sees, and goes away by itself. Repeating it changes nothing.
-- ARGV: job id, index of the first of these items, meta of the 500 items that are complete with these (as JSON,
--       '' if none are), the job as JSON (with the last items; with others, its lanes so far), staged_s (for which
--       it waits for more), then per item: lane, payload
-- The job: lanes (name → count of items), owner, class, ttl_s, max_depth (items of one owner that may be queued in
--       a lane); may have deadline_s, key (idempotency: name, fingerprint, ttl_s), retry_of, webhook (payload of
--       its delivery), followed_s
-- Returns: {'accepted', job id}; {'accepted', id of the job that the key has made before};
--          {'full', lane}, {'another', ''} (the key was used for other items), {'incomplete', ''} (too late:
--          earlier items have gone away), {'retried', id} (of the job that retries the other already)
local job, first, meta, options, staged_s = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5])
if redis.call('HEXISTS', JOB .. job, 'total') == 1 then return { 'accepted', job } end

local payloads, queues = {}, {}
for i = 6, #ARGV, 2 do
  local lane, index = ARGV[i], first + (i - 6) / 2
  queues[lane] = queues[lane] or {}
  payloads[#payloads + 1], payloads[#payloads + 2] = index, ARGV[i + 1]
  table.insert(queues[lane], index)
  table.insert(queues[lane], index)
end
if #payloads > 0 then redis.call('HSET', PAYLOADS .. job, unpack(payloads)) end
for lane, members in pairs(queues) do redis.call('ZADD', QUEUE .. lane .. ':' .. job, unpack(members)) end
if meta ~= '' then redis.call('HSET', JOB .. job, 'meta:' .. math.floor(first / 500), meta) end

options = cjson.decode(options)
if not options.owner then
  redis.call('EXPIRE', JOB .. job, staged_s)
  redis.call('EXPIRE', PAYLOADS .. job, staged_s)
  for lane in pairs(options.lanes) do redis.call('EXPIRE', QUEUE .. lane .. ':' .. job, staged_s) end
  return { 'staged', '' }
end

local function refuse(...)
  redis.call('UNLINK', JOB .. job, PAYLOADS .. job)
  for lane in pairs(options.lanes) do redis.call('UNLINK', QUEUE .. lane .. ':' .. job) end
  return { ... }
end

local key = options.key and IDEMPOTENT .. options.owner .. ':' .. options.key.name
local known = key and redis.call('GET', key)
if known then
  local fingerprint, made = string.match(known, '^(%S+) (.+)$')
  if fingerprint ~= options.key.fingerprint then return refuse('another', '') end
  return refuse('accepted', made)
end
local retried_as = options.retry_of and redis.call('HGET', JOB .. options.retry_of, 'retried_as')
if retried_as then return refuse('retried', retried_as) end

local total, lanes = 0, {}
for lane, count in pairs(options.lanes) do
  total = total + count
  lanes[#lanes + 1] = lane
  local depth = tonumber(redis.call('HGET', DEPTH .. lane, options.owner) or 0)
  if depth + count > options.max_depth then return refuse('full', lane) end
  if first > 0 and redis.call('ZCARD', QUEUE .. lane .. ':' .. job) ~= count then return refuse('incomplete', '') end
end
if first > 0 and redis.call('HLEN', PAYLOADS .. job) ~= total then return refuse('incomplete', '') end

local now = clock()
redis.call('HSET', JOB .. job, 'total', total, 'lanes', table.concat(lanes, ' '), 'owner', options.owner,
  'class', options.class, 'ttl_s', options.ttl_s, 'accepted_ms', ms(now), 'counts', cjson.encode(options.lanes))
if first > 0 then
  redis.call('PERSIST', JOB .. job)
  redis.call('PERSIST', PAYLOADS .. job)
end
redis.call('ZADD', OWNED .. options.owner, ms(now), job)
if options.deadline_s then
  local deadline_ms = ms(now + options.deadline_s * 1000)
  redis.call('HSET', JOB .. job, 'deadline_ms', deadline_ms)
  redis.call('ZADD', DEADLINES, deadline_ms, job)
end
if options.followed_s then redis.call('HSET', JOB .. job, 'followed_ms', ms(now + options.followed_s * 1000)) end
if options.webhook then redis.call('HSET', JOB .. job, 'webhook', options.webhook) end
if key then -- it expires after the job has ended
  redis.call('SET', key, options.key.fingerprint .. ' ' .. job)
  redis.call('HSET', JOB .. job, 'key', options.key.name, 'key_ttl_s', options.key.ttl_s)
end
if options.retry_of then
  redis.call('HSET', JOB .. job, 'retry_of', options.retry_of)
  if redis.call('EXISTS', JOB .. options.retry_of) == 1 then -- it may have expired just now
    redis.call('HSET', JOB .. options.retry_of, 'retried_as', job)
    redis.call('UNLINK', PAYLOADS .. options.retry_of)
  end
end
for lane, count in pairs(options.lanes) do
  if first > 0 then redis.call('PERSIST', QUEUE .. lane .. ':' .. job) end
  line_up(lane, job, options.owner, options.class, count)
end
redis.call('PUBLISH', WAKE, '')
return { 'accepted', job }
