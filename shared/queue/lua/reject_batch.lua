#!lua
-- Stores a batch whose file has mistakes. The batch has no items, so it is no job: its hash has no field `total`.
-- Removes the oldest rejected batch of the owner if there are more than max_rejected, because such a batch costs its
-- client nothing.
-- ARGV: batch id, owner, batch as JSON, errors as JSON, ttl_s (time until the batch expires), max_rejected (limit of
--       the owner's rejected batches), file id, digest of the request, '1' if the client repeats the request, and the
--       file's last batch when the request began: see file_use.lua
-- Returns: id of the batch, or of the batch that an equal request has already created
--- @include "layout"
--- @include "clock"
--- @include "job_end"
--- @include "file_use"
local id, owner, batch, errors, ttl_s, max_rejected, file_id, digest, repetition, seen = unpack(ARGV)
local rejected, file, is_repetition = REJECTED_BATCHES .. owner, FILE .. file_id, repetition == '1'
local created = earlier_use(file, digest, is_repetition, seen)
if created then return created end

redis.call('HSET', JOB .. id, 'owner', owner, 'accepted_ms', ms(now_ms), 'batch', batch, 'batch_errors', errors)
redis.call('EXPIRE', JOB .. id, ttl_s)
redis.call('ZADD', BATCHES_BY_OWNER .. owner, ms(now_ms), id)
redis.call('ZADD', JOB_EXPIRATIONS, ms(now_ms + tonumber(ttl_s) * 1000), owner .. ' ' .. id)
redis.call('RPUSH', rejected, id)
redis.call('EXPIRE', rejected, ttl_s)
if redis.call('LLEN', rejected) > tonumber(max_rejected) then
  local oldest = redis.call('LPOP', rejected)
  redis.call('UNLINK', JOB .. oldest)
  redis.call('ZREM', BATCHES_BY_OWNER .. owner, oldest)
  redis.call('ZREM', JOB_EXPIRATIONS, owner .. ' ' .. oldest)
end
forget_expired(2)
store_use(file, digest, is_repetition, id)
return id
