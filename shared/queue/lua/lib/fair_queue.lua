-- The order of a lane's waiting items: FAIR_QUEUE is a tree of owners, their classes and the jobs of a class, each by the service it
-- had; the items themselves are in QUEUE of lane and job; DEPTH counts them by owner. fair_share.lua takes items out.

-- A child that joins starts with the least service of its siblings: nothing is saved up, nothing is owed.
local function join(siblings, child)
  local least = redis.call('ZRANGE', siblings, 0, 0, 'WITHSCORES')[2]
  redis.call('ZADD', siblings, 'NX', least or 0, child)
end

-- Makes the job a candidate after `count` of its items were put into its queue of the lane.
local function enqueue(lane, job, owner, class, count)
  redis.call('HINCRBY', DEPTH .. lane, owner, count)
  local siblings = FAIR_QUEUE .. lane
  for _, child in ipairs({ owner, class, job }) do
    join(siblings, child)
    siblings = siblings .. ':' .. child
  end
end

-- Counts items that were taken out of a queue. The tree forgets jobs without items when they are next.
local function dequeue(lane, owner, count)
  if redis.call('HINCRBY', DEPTH .. lane, owner, -count) <= 0 then redis.call('HDEL', DEPTH .. lane, owner) end
end
