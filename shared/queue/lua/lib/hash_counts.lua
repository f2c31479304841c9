-- Defines for other files: add_to_count

-- Adds a number, which may be negative, to a count in a hash. A count that is not above 0 is deleted.
local function add_to_count(hash, field, number)
  if redis.call('HINCRBY', hash, field, number) <= 0 then redis.call('HDEL', hash, field) end
end
