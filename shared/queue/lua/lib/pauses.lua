--- @include "clock"
-- Pauses lanes. No item of a paused lane is claimed before `until_ms`; worker/retry_and_pause.py decides how long.
-- PAUSE stores `until_ms` and a reason to display.
-- Defines for other files: paused_until, pause

-- Returns the time in ms at which the lane's pause ends, or 0 if the lane is not paused.
local function paused_until(lane) return tonumber(redis.call('HGET', PAUSE .. lane, 'until_ms') or 0) end

-- Pauses a lane, unless its current pause lasts longer.
local function pause(lane, pause_ms, reason)
  local until_ms = now_ms + pause_ms
  if until_ms <= paused_until(lane) then return end
  redis.call('HSET', PAUSE .. lane, 'until_ms', ms(until_ms), 'reason', reason)
  redis.call('PEXPIRE', PAUSE .. lane, math.ceil(pause_ms) + 1)
end
