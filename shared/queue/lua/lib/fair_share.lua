--- @include "fair_queue"
--- @include "job_cache"
--- @include "health"
--- @include "waiting"
--- @include "leasing"
-- Claims items in the order of the tree of fair_queue.lua by start-time fair queueing (Goyal, Vin and Cheng 1996). Owners share
-- the lane equally. The classes of an owner share the owner's part by weight. The jobs of a class share the class's part
-- equally, and so do the routes of a job. The child with the least service is served first. Within one claim it may get ahead of the next child: a class
-- by one item, any other child by QUANTUM items, because each change to another child costs commands. A child without
-- items stays in the tree until its turn comes, so that no child gains anything by leaving the tree and joining it again.
-- Defines for other files: take_fairly
local QUANTUM = 5
local MAX_MOVES = 32 -- limit of queues that one claim moves to WAITING
local OWNERS, CLASSES, JOBS, ROUTES = 1, 2, 3, 4 -- levels of the tree

-- Removes up to `wanted` items from the start of a queue. Returns their indexes.
local function pop_first(queue, wanted)
  local popped, indexes = redis.call('ZPOPMIN', queue, wanted), {}
  for i = 1, #popped, 2 do indexes[#indexes + 1] = popped[i] end
  return indexes
end

-- Removes an item for a probe: a random one, so that a request that always fails cannot be every probe, and not the item of
-- the last failed probe, if there is another. Returns a list with its index.
local function pop_probe(lane, job, number, route)
  local queue = queue_of(lane, job.id, route)
  local last_failed = (open_record(lane, ACCOUNT) or open_record(lane, route) or {}).last_failed
  local indexes = redis.call('ZRANDMEMBER', queue, 2)
  if indexes[2] and item_of(job.id, indexes[1], number) == last_failed then indexes[1] = indexes[2] end
  indexes[2] = nil
  if indexes[1] then redis.call('ZREM', queue, indexes[1]) end
  return indexes
end

-- Claims up to `limit` items of a lane that has `free` slots. Returns their number, and whether more queues may have to be
-- moved to WAITING.
local function take_fairly(lane, limit, interactive_weight, free)
  local moves_left = MAX_MOVES
  local MAX_OWNERS = 100 -- limit of the owners of webhooks among which one claim looks for one with room

  -- Limits the items that an owner gets from the webhook lane: an owner gets another item only while fewer items of the owner
  -- run than slots are `free`, as in shared/owner_shares.py. A delivery can take long, because its owner chooses the receiver,
  -- so the others must find a free slot. Returns a function for the number of items that an owner may still get, and one that
  -- counts items as running.
  local function owner_room()
    local running_items = {}
    for _, lease in ipairs(redis.call('ZRANGE', LEASES .. lane, 0, -1)) do
      local owner = load_job((split_lease(lease))).owner
      if owner then running_items[owner] = (running_items[owner] or 0) + 1 end
    end
    return function(owner, taken) -- taken: number of items that this claim has taken so far
      return math.max(0, math.ceil((free - taken - (running_items[owner] or 0)) / 2))
    end, function(owner, count) running_items[owner] = (running_items[owner] or 0) + count end
  end

  local room, add_running
  if lane == WEBHOOK_LANE then room, add_running = owner_room() end

  -- Returns the child to serve, its service, the service of the next child if there is one, and the child's room.
  local function next_child(level, siblings, taken)
    if not room or level ~= OWNERS then
      local child, service, _, next_service = unpack(redis.call('ZRANGE', siblings, 0, 1, 'WITHSCORES'))
      return child, service, next_service, math.huge
    end
    local owners = redis.call('ZRANGE', siblings, 0, MAX_OWNERS - 1, 'WITHSCORES')
    for i = 1, #owners, 2 do
      local left = room(owners[i], taken)
      if left > 0 then return owners[i], owners[i + 1], owners[i + 3], left end
    end
  end

  -- Claims up to `wanted` items of one queue. If the queue has to wait, moves it to WAITING. Returns the number of items,
  -- and whether the queue must leave the tree.
  local function claim_from(job, number, wanted)
    local route = routes_of(job, lane)[number]
    if not route then return 0, true end -- the job does not exist any more
    local scope, allowed = blocking_scope(lane, route)
    if scope then
      block(lane, scope, job, number, allowed)
      moves_left = moves_left - 1
      return 0, true
    end
    local is_probe = allowed < math.huge
    local indexes = is_probe and pop_probe(lane, job, number, route) or
      pop_first(queue_of(lane, job.id, route), wanted)
    if #indexes == 0 then return 0, true end
    dequeue(lane, job.owner, #indexes)
    lease_items(lane, job, number, indexes)
    if is_probe then mark_probe(lane, route, lease_of(job.id, indexes[1], number)) end
    return #indexes, #indexes < wanted and not is_probe
  end

  -- Returns the number of items, and whether the node has no items left in the tree.
  local function take(level, siblings, job, wanted)
    local taken = 0
    while taken < wanted and moves_left > 0 do
      local child, service, next_service, left = next_child(level, siblings, taken)
      if not child then return taken, true end
      local weight = level == CLASSES and child == 'interactive' and interactive_weight or 1
      local share = math.min(wanted - taken, left)
      if next_service then
        local lead = math.floor((tonumber(next_service) - tonumber(service)) * weight)
        share = math.min(share, lead + (level == CLASSES and 1 or QUANTUM))
      end
      local got, is_empty
      if level == JOBS then job = load_job(child) end
      if level == ROUTES then
        got, is_empty = claim_from(job, number_of(job, lane, child), share)
      elseif level == JOBS and #routes_of(job, lane) < 2 then
        got, is_empty = claim_from(job, 1, share)
      else
        got, is_empty = take(level + 1, siblings .. ':' .. child, job, share)
      end
      taken = taken + got
      if left < math.huge then add_running(child, got) end
      if is_empty and (got == 0 or not next_service) then
        redis.call('ZREM', siblings, child)
      elseif next_service and got > 0 then
        redis.call('ZINCRBY', siblings, got / weight, child)
      end
      if not next_service then return taken, is_empty end
    end
    return taken, false
  end
  return (take(OWNERS, FAIR_QUEUE .. lane, nil, limit)), moves_left == 0
end
