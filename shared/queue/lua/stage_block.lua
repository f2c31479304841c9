#!lua
-- Stores a block of a file that is being uploaded. The blocks expire unless another block follows. Repeating the call
-- changes nothing.
-- ARGV: file id, owner, number of the block, block, bytes of the blocks so far, bytes of the earlier blocks, ttl_s
--       (time until the blocks expire), max_bytes (limit of the stored bytes of the owner's files), max_queue_bytes
--       (see owner_bytes.lua)
-- Returns: 'staged', or a refusal, after which no block is stored: 'full', 'bytes_full' (see accept_file.lua)
--- @include "layout"
--- @include "owner_bytes"
--- @include "staged_bytes"
local file, owner, number, block, bytes, earlier_bytes, ttl_s, max_bytes, max_queue_bytes = unpack(ARGV)
bytes = tonumber(bytes)
unstage(owner, file, tonumber(earlier_bytes))
unstage(owner, file, bytes) -- this call may be repeated

local function refuse(reason)
  redis.call('UNLINK', FILE_BLOCKS .. file)
  return reason
end

if tonumber(redis.call('HGET', FILE_BYTES, owner) or 0) + bytes > tonumber(max_bytes) then return refuse('full') end
if not has_room(owner, bytes, tonumber(max_queue_bytes)) then return refuse('bytes_full') end
redis.call('HSET', FILE_BLOCKS .. file, number, block)
redis.call('EXPIRE', FILE_BLOCKS .. file, ttl_s)
forget_expired_uploads(2) -- two for each block, so that expired entries cannot accumulate
stage(owner, file, bytes, tonumber(ttl_s))
return 'staged'
