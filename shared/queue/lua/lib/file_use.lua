-- Finds the batch that an equal request has already created from a file, so that a request that OpenAI's client repeats
-- creates one batch.
-- Defines for other files: earlier_use, store_use

-- Returns the id of the batch that an equal request has created, or nil. `seen` is the id of the file's last batch at
-- the start of the request. A repetition gets the last batch of the file. If the first request is slower than its
-- repetition, the first request gets, once, the batch of the repetition.
local function earlier_use(file, digest, is_repetition, seen)
  local used_by, repeated_as = unpack(redis.call('HMGET', file, 'used_by', 'repeated_as'))
  local use, created = string.match(used_by or '', '^(%S+) (.+)$')
  if use ~= digest or redis.call('EXISTS', JOB .. created) == 0 then return nil end
  if is_repetition then return created end
  if created ~= repeated_as or created == seen then return nil end
  redis.call('HDEL', file, 'repeated_as')
  return created
end

local function store_use(file, digest, is_repetition, id)
  if redis.call('EXISTS', file) == 0 then return end -- the file may have been deleted
  redis.call('HSET', file, 'used_by', digest .. ' ' .. id)
  if is_repetition then redis.call('HSET', file, 'repeated_as', id) end
end
