--- @include "fair_queue"
--- @include "job_cache"
-- Takes items out of the tree of fair_queue.lua by start-time fair queueing (Goyal, Vin and Cheng 1996). Owners share
-- the lane equally. The classes of an owner share the owner's part by weight. The jobs of a class share the class's part
-- equally, and so do the routes of a job. The child with the least service is served first. Within one claim it may get ahead of the next child: a class
-- by one item, any other child by QUANTUM items, because each change to another child costs commands. A child without
-- items stays in the tree until its turn comes, so that no child gains anything by leaving the tree and joining it again.
-- Defines for other files: take_fairly
local QUANTUM = 5
local OWNERS, CLASSES, JOBS, ROUTES = 1, 2, 3, 4 -- levels of the tree

-- Takes up to `limit` items, and calls start(job, number of the route, indexes) with the items of each queue. Returns the
-- number of items.
local function take_fairly(lane, limit, interactive_weight, start)
  -- Takes up to `wanted` items of one queue. Returns their number.
  local function pop(job, number, wanted)
    local route = routes_of(job, lane)[number]
    local popped, indexes = route and redis.call('ZPOPMIN', queue_of(lane, job.id, route), wanted) or {}, {}
    for i = 1, #popped, 2 do indexes[#indexes + 1] = popped[i] end
    if #indexes > 0 then
      dequeue(lane, job.owner, #indexes)
      start(job, number, indexes)
    end
    return #indexes
  end

  local function take(level, siblings, job, wanted)
    local taken = 0
    while taken < wanted do
      local child, service, _, next_service = unpack(redis.call('ZRANGE', siblings, 0, 1, 'WITHSCORES'))
      if not child then break end
      local weight = level == CLASSES and child == 'interactive' and interactive_weight or 1
      local share = wanted - taken
      if next_service then
        local lead = math.floor((tonumber(next_service) - tonumber(service)) * weight)
        share = math.min(share, lead + (level == CLASSES and 1 or QUANTUM))
      end
      local got
      if level == JOBS then job = load_job(child) end
      if level == ROUTES then
        got = pop(job, number_of(job, lane, child), share)
      elseif level == JOBS and #routes_of(job, lane) < 2 then
        got = pop(job, 1, share)
      else
        got = take(level + 1, siblings .. ':' .. child, job, share)
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
