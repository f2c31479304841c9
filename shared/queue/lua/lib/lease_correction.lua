--- @include "active_lanes"
--- @include "clock"
--- @include "health_records"
--- @include "round_reply"
--- @include "clock_set_back"
--- @include "work_limit"
-- Corrects the times of leases after Redis's clock was set back: see clock_set_back.lua. Otherwise the leases of lost
-- workers would expire late. Workers may have renewed leases since the set-back, so the times are not moved by the
-- set-back, but limited to LEASE_MS from now.
-- Defines for other files: correct_leases
-- Used in each round: correct_leases

-- Corrects lanes, as work_limit.lua permits. `lanes` has their names, each after a space.
local function correct_lanes(lanes)
  while lanes ~= '' and has_work_left() do
    local lane, others = string.match(lanes, '^ (%S+)(.*)$')
    if lower(LEASES .. lane, now_ms + LEASE_MS) then
      look_at_all_again(lane)
      lanes = others
    end
  end
  set_left(lanes)
  if lanes ~= '' then wake_at(now_ms) end
end

-- Corrects the leases if the clock was set back since the last round, or if an earlier round has left leases over.
local function correct_leases()
  local is_set_back, lanes_left = read_set_back('rounds')
  if is_set_back then lanes_left = ' ' .. table.concat(active_lanes(), ' ') end
  if lanes_left then correct_lanes(lanes_left == ' ' and '' or lanes_left) end
end
