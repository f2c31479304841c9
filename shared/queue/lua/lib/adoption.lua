--- @include "clock"
-- Gives the job of a disconnected client to the client that posts the same body again: see abandon.lua.
-- Defines for other files: adopt

-- Returns the id of a job of this owner and body whose client has disconnected, or nil. The job continues. A further
-- client gets the job only after this client has disconnected, too. A job that was cancelled is not given away.
local function adopt(owner, body_digest)
  local abandoned = ABANDONED .. owner .. ':' .. body_digest
  while true do
    local id = redis.call('LPOP', abandoned)
    if not id then return nil end
    local until_ms, finished_early_as, deadline_ms =
      unpack(redis.call('HMGET', JOB .. id, 'abandoned_until_ms', 'finished_early_as', 'deadline_ms'))
    if until_ms and tonumber(until_ms) > now_ms and finished_early_as ~= 'cancelled' then
      redis.call('HDEL', JOB .. id, 'abandoned_until_ms')
      if deadline_ms then
        redis.call('ZADD', JOB_DEADLINES, 'XX', deadline_ms, id)
      else
        redis.call('ZREM', JOB_DEADLINES, id)
      end
      return id
    end
  end
end
