#!lua flags=no-writes
-- Reads the results or the payloads of items of a job, as far as they fit in a number of bytes, and the meta of the
-- items.
-- ARGV: 'results' or 'payloads', job id, max_bytes, number of blocks, numbers of the blocks whose meta is read, indexes
--       of the items
-- Returns: {the metas of the blocks, the values of the first items (false: no value), the number of bytes of the first
--           value that does not fit, or 0}
local kind, job_id, max_bytes, blocks = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local key = (kind == 'results' and RESULTS or PAYLOADS) .. job_id
local fields, values, bytes = {}, {}, 0
for i = 1, blocks do fields[i] = 'meta:' .. ARGV[4 + i] end
local metas = redis.call('HMGET', JOB .. job_id, unpack(fields))
for i = 5 + blocks, #ARGV do
  local size = redis.call('HSTRLEN', key, ARGV[i])
  bytes = bytes + size
  if bytes > max_bytes then return { metas, values, size } end
  values[i - 4 - blocks] = redis.call('HGET', key, ARGV[i])
end
return { metas, values, 0 }
