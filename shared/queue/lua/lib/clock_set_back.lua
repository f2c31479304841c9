--- @include "clock"
--- @include "work_limit"
-- Detects that Redis's clock was set back, by hand or in a failover to a machine whose clock is behind. Without a
-- correction, times that were stored before would be reached late by the difference. A jump forward is not detected,
-- because it looks like time that has passed.
-- The times of DEFERRED, BLOCKED and WAITING are stored in *queue time*: the time of the clock plus the ms of all
-- set-backs so far. So these times need no correction. Other times are corrected, a limited number in each run.
-- CLOCK has, for each reader, the latest time that the reader has seen (up to CLOCK_STEP_MS old); '<reader>:behind' has
-- the ms of all set-backs; '<reader>:left' says what has not been corrected yet.
-- Defines for other files: read_set_back, set_left, queue_time, clock_time, lower
-- Used in each round: read_set_back, clock_time, clock, behind_ms
local CLOCK_STEP_MS = 1000
local MAX_LOWERED = 200 -- times that one call of `lower` corrects
local clock, behind_ms = '', 0 -- set by `read_set_back`

-- Returns whether the clock was set back by CLOCK_STEP_MS or more since the reader last called this function, and the
-- value that `set_left` has stored, or false. Each script has one reader.
local function read_set_back(reader)
  clock = CLOCK .. reader
  local latest_ms, behind, left = unpack(redis.call('MGET', clock, clock .. ':behind', clock .. ':left'))
  latest_ms, behind_ms = tonumber(latest_ms or 0), tonumber(behind or 0)
  if math.abs(now_ms - latest_ms) < CLOCK_STEP_MS then return false, left end
  redis.call('SET', LAYOUT_VERSION, LAYOUT, 'NX') -- CLOCK may be the first key: see layout.lua
  redis.call('SET', clock, ms(now_ms))
  if latest_ms < now_ms then return false, left end
  behind_ms = behind_ms + latest_ms - now_ms
  redis.call('SET', clock .. ':behind', ms(behind_ms))
  return true, left
end

-- Stores what the next run corrects; '' for nothing.
local function set_left(left)
  if left == '' then
    redis.call('DEL', clock .. ':left')
  else
    redis.call('SET', clock .. ':left', left)
  end
end

local function queue_time(time_ms) return time_ms + behind_ms end

-- Returns the time of the clock for a queue time, or nil for nil.
local function clock_time(time_ms) return time_ms and time_ms - behind_ms end

-- Lowers scores of a sorted set to at most `limit_ms`. Returns whether all scores are low enough now.
local function lower(zset, limit_ms)
  local members = redis.call('ZRANGEBYSCORE', zset, '(' .. ms(limit_ms), '+inf', 'LIMIT', 0, MAX_LOWERED)
  local changes = {}
  for _, member in ipairs(members) do changes[#changes + 1], changes[#changes + 2] = ms(limit_ms), member end
  if #members > 0 then redis.call('ZADD', zset, 'XX', unpack(changes)) end
  spend(2 + #members)
  return #members < MAX_LOWERED
end
