--- @include "clock"
-- Pauses lanes. No item of a paused lane is claimed before `until_ms`; worker/retry_and_pause.py decides how long.
-- PAUSE stores `until_ms`, the whole length `pause_ms` and a reason to display.
-- Invariant: a pause ends at most `pause_ms` from now, also if Redis's clock was set back: see set_back.lua.
-- Defines for other files: paused_until, pause

local function store_end(lane, until_ms, pause_ms)
  redis.call('HSET', PAUSE .. lane, 'until_ms', ms(until_ms), 'pause_ms', pause_ms)
  redis.call('PEXPIRE', PAUSE .. lane, math.ceil(pause_ms) + 1)
end

-- Returns the time in ms at which the lane's pause ends, or 0 if the lane is not paused.
local function paused_until(lane)
  local until_ms, pause_ms = unpack(redis.call('HMGET', PAUSE .. lane, 'until_ms', 'pause_ms'))
  if not until_ms then return 0 end
  until_ms, pause_ms = tonumber(until_ms), tonumber(pause_ms)
  if until_ms > now_ms + pause_ms then
    until_ms = now_ms + pause_ms
    store_end(lane, until_ms, pause_ms)
  end
  return until_ms
end

-- Pauses a lane, unless its current pause lasts longer.
local function pause(lane, pause_ms, reason)
  local until_ms = now_ms + pause_ms
  if until_ms <= paused_until(lane) then return end
  store_end(lane, until_ms, pause_ms)
  redis.call('HSET', PAUSE .. lane, 'reason', reason)
end
