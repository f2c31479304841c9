-- Divides the slots of a worker among the lanes that are ready, so that one slow lane cannot fill the worker and delay
-- the other lanes. Each ready lane has a reserve, which the other lanes leave free. All lanes that are not ready have
-- one reserve together, because any of them may become ready. The reserves of the ready lanes are together a quarter of
-- the slots, but each has at least one slot. A lane without a running item of this worker may take any free slot,
-- because there may be more lanes than slots.
-- Defines for other files: running, set_free_slots, has_free_slots, divide_slots, slots_for, use_slots
-- Used in each round: running, free, reserve, reserved, set_free_slots, unused_reserve, divide_slots, slots_for,
-- use_slots
local running, free = {}, 0 -- the items that the worker runs, by lane; the items that it can still take
local reserve, reserved = 0, 0 -- slots that each reserve has, slots that all reserves still have

local function set_free_slots(count) free = count end

local function has_free_slots() return free > 0 end

local function unused_reserve(lane) return math.max(0, reserve - (running[lane] or 0)) end

-- has_others: whether the worker serves a lane that is not in `ready_lanes`
local function divide_slots(ready_lanes, has_others)
  local slots = free
  for _, count in pairs(running) do slots = slots + count end
  reserve = math.max(1, math.floor(slots / 4 / math.max(1, #ready_lanes)))
  reserved = has_others and reserve or 0
  for _, lane in ipairs(ready_lanes) do reserved = reserved + unused_reserve(lane) end
end

-- Returns the number of items that the worker may still take from a ready lane.
local function slots_for(lane)
  local count = free - (reserved - unused_reserve(lane))
  if (running[lane] or 0) == 0 then count = math.max(1, count) end
  return math.max(0, math.min(count, free))
end

local function use_slots(lane, count)
  reserved = reserved - unused_reserve(lane)
  running[lane] = (running[lane] or 0) + count
  free = free - count
  reserved = reserved + unused_reserve(lane)
end
