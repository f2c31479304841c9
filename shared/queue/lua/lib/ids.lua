-- An item is '<job>:<index>', followed by '.<number>' if the number of its route is not 1: see fair_queue.lua. A lease
-- is '<item>@<claimed_us>': claimed_us is the time, in µs, of the claim. '|…' follows if the lane has several
-- deployments: see deployments.lua. '~…' follows if the lease uses limiters: see limits_in_force.lua.
-- Defines for other files: item_of, split_item, split_lease
-- Used in each round: item_of, split_lease
local function item_of(job_id, index, number) return job_id .. ':' .. index .. (number > 1 and '.' .. number or '') end

-- Returns the job's id, the item's index in the job and the number of the item's route.
local function split_item(item)
  local id, index, number = string.match(item, '^(.+):(%d+)%.?(%d*)$')
  return id, index, tonumber(number) or 1
end

-- Returns the same as `split_item`, claimed_us, and whether the lease names a deployment or limiters.
local function split_lease(lease)
  local id, index, number, claimed_us, more = string.match(lease, '^([^@]+):(%d+)%.?(%d*)@(%d+)(.?)')
  return id, index, tonumber(number) or 1, claimed_us, more ~= ''
end
