--- @include "clock"
--- @include "worker_slots"
-- Divides a lane's limit among the workers. Without that, one worker may hold all leases of a lane, and if it is lost,
-- all of its calls are repeated. A worker's *share* is the limit divided by the number of workers. A worker is *hungry*
-- if it has free slots and runs less than its share, while the lane has items and other workers hold the rest of the
-- limit. While another worker is hungry, a worker claims only up to its share, and leaves the rest of the limit to the
-- hungry worker.
-- HUNGRY has '<worker> <lane>' by the time after which the entry is not valid, because the worker may be lost.
-- Defines for other files: share_left, note_hunger
-- Used in each round: share_left, hungry
local HUNGRY_MS = 7000 -- longer than the time between two rounds of a worker that is not woken: see POLL_S
local MAX_ENTRIES = 500 -- limit of the entries of HUNGRY that a round reads
local hungry = false -- lane → set of hungry workers; false until it is read

local function read_hungry()
  local found = {}
  local old = redis.call('ZRANGEBYSCORE', HUNGRY, '-inf', now_ms, 'LIMIT', 0, MAX_ENTRIES)
  if #old > 0 then redis.call('ZREM', HUNGRY, unpack(old)) end
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', HUNGRY, '(' .. ms(now_ms), '+inf', 'LIMIT', 0, MAX_ENTRIES)) do
    local worker, lane = string.match(entry, '^(%S+) (%S+)$')
    found[lane] = found[lane] or {}
    found[lane][worker] = true
  end
  return found
end

local function share_of(limit) return math.ceil(limit / math.max(1, redis.call('ZCARD', WORKERS))) end

-- Returns the number of items that the worker may still claim from a lane: math.huge unless another worker is hungry.
local function share_left(lane, limit, worker)
  hungry = hungry or redis.call('EXISTS', HUNGRY) == 0 and {} or read_hungry()
  for other in pairs(hungry[lane] or {}) do
    if other ~= worker then return math.max(0, share_of(limit) - (running[lane] or 0)) end
  end
  return math.huge
end

-- Records whether the worker is hungry. The caller has found that the lane has items and that its limit is used up.
local function note_hunger(lane, limit, worker)
  local count = running[lane] or 0
  if not has_free_slots() or count >= limit then return end
  hungry = hungry or read_hungry()
  if count < share_of(limit) then
    redis.call('ZADD', HUNGRY, ms(now_ms + HUNGRY_MS), worker .. ' ' .. lane)
  elseif hungry[lane] and hungry[lane][worker] then
    redis.call('ZREM', HUNGRY, worker .. ' ' .. lane)
  end
end
