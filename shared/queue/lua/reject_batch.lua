#!lua
-- Stores a batch whose file has mistakes. The batch has no items, so it is no job: its hash has no field `total`.
-- ARGV: batch id, owner, batch as JSON, errors as JSON, ttl_s (time until the batch expires)
--- @include "layout"
--- @include "clock"
--- @include "job_end"
local id, owner, batch, errors, ttl_s = unpack(ARGV)
redis.call('HSET', JOB .. id, 'owner', owner, 'accepted_ms', ms(now_ms), 'batch', batch, 'batch_errors', errors)
redis.call('EXPIRE', JOB .. id, ttl_s)
redis.call('ZADD', BATCHES_BY_OWNER .. owner, ms(now_ms), id)
redis.call('ZADD', JOB_EXPIRATIONS, ms(now_ms + tonumber(ttl_s) * 1000), owner .. ' ' .. id)
forget_expired(2)
