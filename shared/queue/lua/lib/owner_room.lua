--- @include "ids"
--- @include "job_cache"
-- Limits the items that an owner gets from the webhook lane: an owner gets another item only while fewer items of the
-- owner run than slots are `free`, as in shared/owner_shares.py. A delivery can take long, because its owner chooses
-- the receiver. The limit leaves free slots for the other owners.
-- Defines for other files: owner_room
local MAX_LEASES = 100 -- limit of the leases that are read; the lane has far fewer: see worker/webhooks.py

-- Returns two functions: the first returns the number of items that an owner may still get, the second counts items as
-- running.
local function owner_room(lane, free)
  local running_items = {}
  for _, lease in ipairs(redis.call('ZRANGE', LEASES .. lane, 0, MAX_LEASES - 1)) do
    local owner = load_job((split_lease(lease))).owner
    if owner then running_items[owner] = (running_items[owner] or 0) + 1 end
  end
  return function(owner, taken) -- taken: number of items that this claim has taken so far
    return math.max(0, math.ceil((free - taken - (running_items[owner] or 0)) / 2))
  end, function(owner, count) running_items[owner] = (running_items[owner] or 0) + count end
end
