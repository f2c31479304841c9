#!lua flags=allow-oom
-- Deletes a file. The file of another owner takes as long as a file that does not exist.
-- ARGV: file id, owner
-- Returns: 1, or 0 if the owner has no such file
--- @include "files"
local file, owner = ARGV[1], ARGV[2]
local file_owner, bytes = unpack(redis.call('HMGET', FILE .. file, 'owner', 'stored_bytes'))
if file_owner ~= owner then return 0 end
forget_file(owner, file, bytes)
return 1
