--- @include "active_lanes"
-- Keeps the order of a lane's queued items. FAIR_QUEUE is a tree: owners, the classes of an owner, the jobs of a class,
-- and if a job has several routes in the lane, the routes of the job. A route names the model that items ask for, and
-- their fallbacks: see fallbacks.lua.
-- The job's field `routes` has the list of its routes per lane; a route's number is its place in this list.
-- The children of a node are a sorted set by *service*: the number of items that a child got, divided by its weight.
-- The routes of a job are a sorted set by the index of their first item, so that the items of a job keep their order.
-- The items are in QUEUE, one sorted set per lane, job and route. DEPTH counts them per owner. fair_share.lua takes
-- items out.
-- Defines for other files: queue_of, join_path, enqueue, dequeue
-- Used in each round: queue_of, dequeue

local function queue_of(lane, job_id, route) return QUEUE .. lane .. ':' .. job_id .. ':' .. route end

-- Adds a child to its siblings, unless it is among them. A new child starts with the least service of its siblings, so
-- the time when it had no items gives it neither an advantage nor a disadvantage.
local function join(siblings, child)
  local least = redis.call('ZRANGE', siblings, 0, 0, 'WITHSCORES')[2]
  redis.call('ZADD', siblings, 'NX', least or 0, child)
end

-- Adds one of a job's queues to the tree. `route` is the queue's route if the job has several routes in this lane, else
-- nil or false.
local function join_path(lane, job_id, owner, class, route)
  local siblings = FAIR_QUEUE .. lane
  for _, child in ipairs({ owner, class, job_id }) do
    join(siblings, child)
    siblings = siblings .. ':' .. child
  end
  local first = route and redis.call('ZRANGE', queue_of(lane, job_id, route), 0, 0)[1]
  if first then redis.call('ZADD', siblings, 'LT', first, route) end
end

-- Adds one of a job's queues to the tree, after the caller has added `count` items to the queue. `route`: see
-- join_path.
local function enqueue(lane, job_id, owner, class, count, route)
  add_lane(lane)
  redis.call('HINCRBY', DEPTH .. lane, owner, count)
  join_path(lane, job_id, owner, class, route)
end

-- Subtracts `count` items, which the caller has taken out of QUEUE, from the owner's count in DEPTH. A job without
-- items stays in the tree until its turn comes: see fair_share.lua.
local function dequeue(lane, owner, count)
  if redis.call('HINCRBY', DEPTH .. lane, owner, -count) <= 0 then redis.call('HDEL', DEPTH .. lane, owner) end
end
