#!lua
-- Makes an uploaded file visible. Until then, its blocks expire unless another block follows. Repeating the call
-- changes nothing.
-- ARGV: file id, owner, description as JSON, number of blocks, bytes of the blocks, bytes that stage_block.lua has
--       counted, ttl_s (time until the file expires), max_bytes (limit of the stored bytes of the owner's files),
--       max_files (limit of the owner's files), max_queue_bytes (see owner_bytes.lua),
--       then of the upload, so that its repetition gets the same file: digest, digest of its idempotency key ('': no
--       key), '1' if the client says that it repeats the upload, and the seconds for which the upload is known
-- Returns: 'accepted'; the id of the file of an equal upload; or a refusal: 'conflict' (another upload has the same
--          idempotency key), 'full' (the owner's files would exceed a limit), 'bytes_full' (the owner's files and
--          unfinished jobs would exceed max_queue_bytes), 'expired' (earlier blocks have expired)
--- @include "clock"
--- @include "layout"
--- @include "files"
--- @include "owner_bytes"
--- @include "staged_bytes"
local file, owner, info, blocks, bytes, staged, ttl_s, max_bytes, max_files, max_queue_bytes = unpack(ARGV, 1, 10)
local digest, key, is_repetition, known_s = unpack(ARGV, 11, 14)
if redis.call('EXISTS', FILE .. file) == 1 then return 'accepted' end
unstage(owner, file, tonumber(staged))

local function refuse(reason)
  redis.call('UNLINK', FILE_BLOCKS .. file)
  return reason
end

if redis.call('HLEN', FILE_BLOCKS .. file) ~= tonumber(blocks) then return refuse('expired') end
local upload = UPLOADS .. owner .. ':' .. (key ~= '' and key or digest)
local known_digest, known_file = string.match(redis.call('GET', upload) or '', '^(%S+) (%S+)$')
local known_use = known_file and redis.call('HMGET', FILE .. known_file, 'owner', 'used_by')
if known_use and known_use[1] then
  if known_digest ~= digest then return refuse('conflict') end
  -- Without a key, a file that a batch has used is not returned: its client has received the response to its upload.
  if key ~= '' or is_repetition == '1' and not known_use[2] then return refuse(known_file) end
end
forget_expired_files(2) -- two for each new file, so that expired files cannot accumulate
local stored_bytes = tonumber(redis.call('HGET', FILE_BYTES, owner) or 0)
if stored_bytes + tonumber(bytes) > tonumber(max_bytes) then return refuse('full') end
if not has_room(owner, tonumber(bytes), tonumber(max_queue_bytes)) then return refuse('bytes_full') end
if redis.call('ZCARD', FILES_BY_OWNER .. owner) >= tonumber(max_files) then return refuse('full') end

local expires_ms = now_ms + tonumber(ttl_s) * 1000
redis.call('HSET', FILE .. file, 'owner', owner, 'created_ms', ms(now_ms), 'expires_ms', ms(expires_ms),
  'blocks', blocks, 'stored_bytes', bytes, 'info', info)
redis.call('PEXPIREAT', FILE .. file, math.ceil(expires_ms))
redis.call('PEXPIREAT', FILE_BLOCKS .. file, math.ceil(expires_ms))
redis.call('ZADD', FILES_BY_OWNER .. owner, ms(now_ms), file)
redis.call('ZADD', FILE_EXPIRATIONS, ms(expires_ms), owner .. ' ' .. file .. ' ' .. bytes)
redis.call('HINCRBY', FILE_BYTES, owner, bytes)
redis.call('SET', upload, digest .. ' ' .. file, 'EX', math.min(known_s, ttl_s))
return 'accepted'
