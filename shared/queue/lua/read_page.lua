#!lua flags=no-writes
-- Reads the results of items of a job, as far as the results fit in a number of bytes, and the meta of the items.
-- ARGV: job id, max_bytes, number of blocks, numbers of the blocks whose meta is read, indexes of the items
-- Returns: {the metas of the blocks, the results of the first items (false: no result), the number of bytes of the first
--           result that does not fit, or 0}
local job_id, max_bytes, blocks = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local fields, results, bytes = {}, {}, 0
for i = 1, blocks do fields[i] = 'meta:' .. ARGV[3 + i] end
local metas = redis.call('HMGET', JOB .. job_id, unpack(fields))
for i = 4 + blocks, #ARGV do
  local size = redis.call('HSTRLEN', RESULTS .. job_id, ARGV[i])
  bytes = bytes + size
  if bytes > max_bytes then return { metas, results, size } end
  results[i - 3 - blocks] = redis.call('HGET', RESULTS .. job_id, ARGV[i])
end
return { metas, results, 0 }
