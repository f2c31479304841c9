#!lua flags=allow-oom
-- Deletes a file. A call for another owner's file takes as long as a call for a file that does not exist.
-- ARGV: file id, owner
-- Returns: 1, or 0 if the owner has no such file
--- @include "files"
local file, owner = ARGV[1], ARGV[2]
local file_owner, bytes = unpack(redis.call('HMGET', FILE .. file, 'owner', 'stored_bytes'))
if file_owner ~= owner then return 0 end
forget_file(owner, file, bytes)
return 1
