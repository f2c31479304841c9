#!lua
-- Stores a batch whose file has mistakes. The batch has no items, so it is no job: its hash has no field `total`. Removes
-- the oldest rejected batch of the owner if there are too many, because storing one costs its client nothing.
-- ARGV: batch id, owner, batch as JSON, errors as JSON, ttl_s (time until the batch expires), max_rejected (limit of the
--       owner's rejected batches)
--- @include "layout"
--- @include "clock"
--- @include "job_end"
local id, owner, batch, errors, ttl_s, max_rejected = unpack(ARGV)
local rejected = REJECTED_BATCHES .. owner

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
