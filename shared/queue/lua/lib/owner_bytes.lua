--- @include "files"
--- @include "staged_bytes"
-- Compares what an owner keeps in Redis with a limit: the payloads of unfinished jobs, the parts of uploads that have
-- not ended, and the files that have not expired.
-- Defines for other files: has_room

local function used_bytes(owner)
  return tonumber(redis.call('HGET', QUEUE_BYTES, owner) or 0) + tonumber(redis.call('HGET', FILE_BYTES, owner) or 0)
end

-- Returns whether the owner may keep `bytes` more.
local function has_room(owner, bytes, max_bytes)
  if used_bytes(owner) + bytes <= max_bytes then return true end
  forget_expired_files(20)
  forget_expired_uploads(20)
  return used_bytes(owner) + bytes <= max_bytes
end
