--- @include "clock"
--- @include "hash_counts"
-- Counts the bytes of uploads that have not ended, so that several uploads at once cannot exceed an owner's limit.
-- QUEUE_BYTES includes these bytes. STAGED_UPLOADS has one entry per upload, which expires with the upload's parts.
-- Defines for other files: stage, unstage, forget_expired_uploads

local function entry_of(owner, upload, bytes) return owner .. ' ' .. upload .. ' ' .. string.format('%.0f', bytes) end

-- Counts `bytes` of an upload, until `unstage` is called or, after ttl_s seconds, `forget_expired_uploads`.
local function stage(owner, upload, bytes, ttl_s)
  local entry = entry_of(owner, upload, bytes)
  local is_new = redis.call('ZADD', STAGED_UPLOADS, ms(now_ms + ttl_s * 1000), entry) == 1
  if is_new then add_to_count(QUEUE_BYTES, owner, bytes) end
end

-- Stops counting the bytes of an upload, if exactly `bytes` are counted for the upload.
local function unstage(owner, upload, bytes)
  local was_staged = redis.call('ZREM', STAGED_UPLOADS, entry_of(owner, upload, bytes)) == 1
  if was_staged then add_to_count(QUEUE_BYTES, owner, -bytes) end
end

-- Stops counting up to `limit` uploads whose parts have expired.
local function forget_expired_uploads(limit)
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', STAGED_UPLOADS, '-inf', now_ms, 'LIMIT', 0, limit)) do
    local owner, upload, bytes = string.match(entry, '^(%S*) (%S+) (%d+)$')
    unstage(owner, upload, tonumber(bytes))
  end
end
