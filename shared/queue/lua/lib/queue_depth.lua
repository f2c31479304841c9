-- Counts the items in the queues of a lane: DEPTH has a count per owner.
-- Defines for other files: queue_depth
local MAX_OWNERS = 500 -- limit of the owners of a lane that are counted; if there are more, the sum is an estimate

local function queue_depth(lane)
  local depth, sum = DEPTH .. lane, 0
  local owners = redis.call('HLEN', depth)
  if owners == 0 then return 0 end
  if owners <= MAX_OWNERS then
    for _, count in ipairs(redis.call('HVALS', depth)) do sum = sum + count end
    return sum
  end
  local some = redis.call('HRANDFIELD', depth, MAX_OWNERS, 'WITHVALUES')
  for i = 2, #some, 2 do sum = sum + some[i] end
  return math.floor(sum / (#some / 2) * owners)
end
