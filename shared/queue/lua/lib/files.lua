--- @include "clock"
--- @include "hash_counts"
-- Removes files. FILE_BYTES counts the bytes of the files in FILES_BY_OWNER, so both change together.
-- Defines for other files: forget_file, forget_expired_files

local function forget_file(owner, file, bytes)
  if redis.call('ZREM', FILES_BY_OWNER .. owner, file) == 1 then add_to_count(FILE_BYTES, owner, -tonumber(bytes)) end
  redis.call('ZREM', FILE_EXPIRATIONS, owner .. ' ' .. file .. ' ' .. bytes)
  redis.call('UNLINK', FILE .. file, FILE_BLOCKS .. file)
end

-- Removes up to `limit` files that have expired. Returns their number.
local function forget_expired_files(limit)
  local entries = redis.call('ZRANGEBYSCORE', FILE_EXPIRATIONS, '-inf', now_ms, 'LIMIT', 0, limit)
  for _, entry in ipairs(entries) do forget_file(string.match(entry, '^(%S*) (%S+) (%d+)$')) end
  return #entries
end
