--- @include "clock"
-- Detects that Redis's clock was set back, by hand or in a failover to a machine whose clock is behind. Without a
-- correction, times that were stored before would be reached late by the difference. A jump forward is not detected,
-- because it looks like time that has passed.
-- Invariant: after a reader has corrected its times, no time is further ahead than the longest intended wait.
-- CLOCK has, for each reader, the latest time that the reader has seen, within CLOCK_STEP_MS.
-- Defines for other files: read_set_back, lower
local CLOCK_STEP_MS = 1000

-- Returns the ms by which the clock was set back since the reader last called this function; 0 for less than a step.
local function read_set_back(reader)
  local latest_ms = tonumber(redis.call('GET', CLOCK .. reader) or 0)
  if math.abs(now_ms - latest_ms) < CLOCK_STEP_MS then return 0 end
  redis.call('SET', LAYOUT_VERSION, LAYOUT, 'NX') -- CLOCK may be the first key: see layout.lua
  redis.call('SET', CLOCK .. reader, ms(now_ms))
  return math.max(0, latest_ms - now_ms)
end

-- Lowers the scores of a sorted set to at most `limit_ms`.
local function lower(zset, limit_ms)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', zset, '(' .. ms(limit_ms), '+inf')) do
    redis.call('ZADD', zset, 'XX', ms(limit_ms), member)
  end
end
