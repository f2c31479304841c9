--- @include "fair_queue"
-- Start-time fair queueing (Goyal, Vin and Cheng 1996) in the tree of fair_queue.lua: owners share the lane, the classes
-- of an owner share by weight what the owner gets, the jobs of a class share that. The child with the least service is
-- served until the next one has had less; where several items run at once, an owner or job gets QUANTUM items more,
-- because each change costs. A child without items stays until it would be next, so that coming back earns it nothing.
local QUANTUM = 5
local OWNERS, CLASSES, JOBS = 1, 2, 3 -- levels of the tree

-- Takes up to `limit` items and passes them on as start(job id, indexes). Returns how many it took.
local function take_fairly(lane, limit, interactive_weight, start)
  local function take(level, siblings, owner, limit)
    local taken = 0
    while taken < limit do
      local child, service, _, next_service = unpack(redis.call('ZRANGE', siblings, 0, 1, 'WITHSCORES'))
      if not child then break end
      local weight = level == CLASSES and child == 'interactive' and interactive_weight or 1
      local share = limit - taken
      if next_service then
        local lead = math.floor((tonumber(next_service) - tonumber(service)) * weight)
        share = math.min(share, lead + (level == CLASSES and 1 or QUANTUM))
      end
      local got
      if level < JOBS then
        got = take(level + 1, siblings .. ':' .. child, level == OWNERS and child or owner, share)
      else
        local popped, indexes = redis.call('ZPOPMIN', QUEUE .. lane .. ':' .. child, share), {}
        for i = 1, #popped, 2 do indexes[#indexes + 1] = popped[i] end
        got = #indexes
        if got > 0 then
          dequeue(lane, owner, got)
          start(child, indexes)
        end
      end
      taken = taken + got
      if not next_service then
        if got < share then redis.call('ZREM', siblings, child) end
        break
      elseif got == 0 then
        redis.call('ZREM', siblings, child)
      else
        redis.call('ZINCRBY', siblings, got / weight, child)
      end
    end
    return taken
  end
  return take(OWNERS, FAIR_QUEUE .. lane, nil, limit)
end
