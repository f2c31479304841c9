#!lua
-- Stores a job and queues its items, all or nothing. Repeating it changes nothing.
-- ARGV: job id, ttl_s, max_depth (queued items a lane may hold), meta, then per item: lane, payload
-- Returns: '' when accepted, else the name of the lane that is full.
local job, ttl_s, max_depth, meta = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local total = (#ARGV - 4) / 2
if redis.call('EXISTS', JOB .. job) == 1 then return '' end

local arriving = {}
for i = 5, #ARGV, 2 do arriving[ARGV[i]] = (arriving[ARGV[i]] or 0) + 1 end
for lane, count in pairs(arriving) do
  local depth = 0
  for _, line in ipairs({ QUEUE, QUARANTINE, DEFERRED }) do depth = depth + redis.call('ZCARD', line .. lane) end
  if depth + count > max_depth then return lane end
end

local now = ms(clock())
redis.call('HSET', JOB .. job, 'meta', meta, 'total', total, 'ttl_s', ttl_s, 'accepted_ms', now)
for index = 0, total - 1 do
  local lane, payload = ARGV[5 + 2 * index], ARGV[6 + 2 * index]
  -- The padding keeps items of one job, accepted in the same ms, in their order.
  local item = string.format('%s:%05d', job, index)
  redis.call('HSET', ITEM .. item, 'payload', payload, 'lane', lane, 'accepted_ms', now)
  redis.call('ZADD', QUEUE .. lane, now, item)
end
redis.call('PUBLISH', WAKE, '')
return ''
