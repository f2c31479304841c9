--- @include "clock"
-- A paused lane hands out nothing until a time; PAUSE has that time and, for people, the reason.

-- Returns the time in ms, or 0 if the lane is not paused.
local function paused_until(lane) return tonumber(redis.call('HGET', PAUSE .. lane, 'until_ms') or 0) end

-- A shorter pause never shortens a longer one.
local function pause(lane, pause_ms, reason)
  local until_ms = now + pause_ms
  if until_ms <= paused_until(lane) then return end
  redis.call('HSET', PAUSE .. lane, 'until_ms', ms(until_ms), 'reason', reason)
  redis.call('PEXPIRE', PAUSE .. lane, math.ceil(pause_ms) + 1)
end
