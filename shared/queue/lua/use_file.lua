#!lua
-- Stores which batch was created from a file, so that a repeated request finds the batch.
-- ARGV: file id, owner, '<digest of the request> <job id>'
local file, owner, used_by = unpack(ARGV)
if redis.call('HGET', FILE .. file, 'owner') == owner then redis.call('HSET', FILE .. file, 'used_by', used_by) end
