--- @include "clock"
--- @include "ids"
--- @include "fair_queue"
--- @include "job_cache"
--- @include "health_records"
--- @include "waiting"
--- @include "is_healthy"
--- @include "usual_lane"
--- @include "blocking_scope"
--- @include "limits_in_force"
--- @include "limiters"
--- @include "leasing"
--- @include "deployments"
--- @include "fallbacks"
--- @include "deployment_choice"
--- @include "owner_room"
-- Claims items in the order of the tree of fair_queue.lua by start-time fair queueing (Goyal, Vin and Cheng 1996).
-- Owners share the lane equally. The classes of an owner share the owner's part by weight. The jobs of a class share
-- the class's part equally. The items of a job are served in their order, over all of its routes. The child with the
-- least service is served first. Within one claim this child may get ahead of the next child: a class by one item, any
-- other child by QUANTUM items, because each change to another child costs commands. A child without items stays in the
-- tree until its turn comes, so that no child gains anything by leaving the tree and joining it again.
-- Defines for other files: take_fairly
-- Used in each round: take_fairly, take, claim_from, pop_first, NO_LIMITERS, round_moves, round_skips
local QUANTUM = 5
local MAX_OWNERS = 100 -- limit of the owners of webhooks among which one claim looks for one with room
-- Limit of the children without items that a round removes. A queue that it moves to WAITING counts ten times.
local round_moves = 120
local MIN_MOVES = 1 -- the same limit for a lane, if the round has reached its limit
local round_skips = 32 -- limit of queues that a round skips, because a limiter allows none of their items now
local MIN_SKIPS = 1
local NO_LIMITERS = {}
local MAX_LEAD = 50 -- items by which a child that is skipped may fall behind
local OWNERS, CLASSES, JOBS, ROUTES = 1, 2, 3, 4 -- levels of the tree

-- Removes up to `wanted` items from the start of a queue, only those up to the index `before` if it is given. Returns
-- their indexes.
local function pop_first(queue, wanted, before)
  if before then
    local indexes = redis.call('ZRANGEBYSCORE', queue, '-inf', before, 'LIMIT', 0, wanted)
    if #indexes > 0 then redis.call('ZREM', queue, unpack(indexes)) end
    return indexes
  end
  local popped, indexes = redis.call('ZPOPMIN', queue, wanted), {}
  for i = 1, #popped, 2 do indexes[#indexes + 1] = popped[i] end
  return indexes
end

-- Removes an item for a probe from a queue. The item is random, so that a request that always fails cannot be every
-- probe. It is not the item of the last failed probe, if the queue has another item. Returns a list of the item's
-- index, or an empty list.
local function pop_probe(queue, job, number, account, model)
  local last_failed = (open_record(account, ACCOUNT) or open_record(account, model) or {}).last_failed
  local indexes = redis.call('ZRANDMEMBER', queue, 2)
  if indexes[2] and item_of(job.id, indexes[1], number) == last_failed then indexes[1] = indexes[2] end
  indexes[2] = nil
  if indexes[1] then redis.call('ZREM', queue, indexes[1]) end
  return indexes
end

-- A claim is a table: lane, interactive_weight, next_ms (time at which a limiter may allow more
-- items), moves_left and skips_left (limits of this claim), room and add_running (of a webhook lane: see
-- owner_room.lua).

local function count_moves(claim, count)
  claim.moves_left, round_moves = claim.moves_left - count, round_moves - count
end

-- Returns the first owner with room, its service, the service of the next owner if there is one, and the owner's room.
-- Returns nothing if no owner has room.
local function next_owner(claim, owners, taken)
  local entries = redis.call('ZRANGE', owners, 0, MAX_OWNERS - 1, 'WITHSCORES')
  for i = 1, #entries, 2 do
    local room = claim.room(entries[i], taken)
    if room > 0 then return entries[i], entries[i + 1], entries[i + 3], room end
  end
end

-- Returns a function that estimates the tokens of a queue's first item: see `estimate_tokens`.
local function tokens_of(job, queue)
  return function(account, limiter)
    return estimate_tokens(account, limiter, job, redis.call('ZRANGE', queue, 0, 0)[1] or 0)
  end
end

-- Skips a queue that has to wait until `at_ms`. The queue stays in the tree; if the claim has skipped too many queues,
-- it moves to WAITING. Returns 0, and whether the queue must leave the tree.
local function skip(claim, job, number, scope, at_ms)
  claim.next_ms = math.min(claim.next_ms, at_ms)
  claim.skips_left, round_skips = claim.skips_left - 1, round_skips - 1
  if claim.skips_left >= 0 then return 0, false end
  block(claim.lane, scope, job, number, math.min(at_ms, now_ms + LEASE_MS))
  count_moves(claim, 10)
  return 0, true
end

-- Does the same as `claim_from` for a lane that is not usual.
local function claim_checked(claim, job, number, route, wanted, before)
  local lane, model = claim.lane, model_of(route)
  local scope, allowed = blocking_scope(lane, model)
  if scope then
    block(lane, scope, job, number, allowed)
    count_moves(claim, 10)
    return 0, true
  end
  local queue, account, served_model, list = queue_of(lane, job.id, route), lane, model, nil
  local deployment, count, add_served
  if is_plain(lane) then
    list = limiters_of(lane, model)
    if list[1] then
      if redis.call('EXISTS', queue) == 0 then return 0, true end
      local room, at_ms, limiter = limiters_room(lane, list, tokens_of(job, queue))
      if limiter then return skip(claim, job, number, LIMITER .. limiter.name, at_ms or math.huge) end
      wanted = math.min(wanted, room)
    end
  else
    deployment, count, add_served = choose(lane, model, tokens_of(job, queue))
    if not deployment then return skip(claim, job, number, model, count) end
    account, served_model, wanted = deployment.account, deployment.scope, math.min(wanted, count)
    list = limiters_of(account, served_model)
    allowed = math.min(gate(account, ACCOUNT), (gate(account, served_model)))
  end
  local is_probe = allowed < math.huge
  local indexes = is_probe and pop_probe(queue, job, number, account, served_model) or pop_first(queue, wanted, before)
  if #indexes == 0 then return 0, true end
  dequeue(lane, job.owner, #indexes)
  lease_items(lane, job, number, indexes, list, deployment)
  if deployment then add_served(#indexes) end
  if is_probe then mark_probe(account, served_model, lease_of(lane, job.id, indexes[1], number, list, deployment)) end
  return #indexes, #indexes < wanted and not is_probe
end

-- Claims up to `wanted` items of one queue. If the queue has to wait for a scope, moves it to WAITING; if it has to
-- wait for a limiter, leaves it in the tree, where it keeps its share. Returns the number of items, and whether the
-- queue must leave the tree.
local function claim_from(claim, job, number, wanted, before)
  local lane = claim.lane
  local route = routes_of(job, lane)[number]
  if not route then return 0, true end -- the job does not exist any more
  if not is_usual(lane) then return claim_checked(claim, job, number, route, wanted, before) end
  local indexes = pop_first(queue_of(lane, job.id, route), wanted, before)
  if #indexes == 0 then return 0, true end
  dequeue(lane, job.owner, #indexes)
  lease_items(lane, job, number, indexes, NO_LIMITERS)
  return #indexes, #indexes < wanted
end

-- Claims up to `wanted` items below a node of the tree. Returns the number of items, and whether the node has no items
-- left in the tree.
local function take(claim, level, siblings, job, wanted)
  local taken, skipped = 0, 0
  while taken < wanted and claim.moves_left > 0 do
    local child, service, _, next_service, room
    if claim.room and level == OWNERS then
      child, service, next_service, room = next_owner(claim, siblings, taken)
    else
      child, service, _, next_service = unpack(redis.call('ZRANGE', siblings, skipped, skipped + 1, 'WITHSCORES'))
    end
    if not child then return taken, skipped == 0 end
    local weight = level == CLASSES and child == 'interactive' and claim.interactive_weight or 1
    local share = wanted - taken
    if room and room < share then share = room end
    if next_service and level ~= ROUTES then
      local lead = math.floor((tonumber(next_service) - tonumber(service)) * weight)
      share = math.min(share, lead + (level == CLASSES and 1 or QUANTUM))
    end
    local got, is_empty
    if level == JOBS then job = load_job(child) end
    if level == ROUTES then
      got, is_empty = claim_from(claim, job, number_of(job, claim.lane, child), share, next_service)
      if got > 0 then
        local first = redis.call('ZRANGE', queue_of(claim.lane, job.id, child), 0, 0)[1]
        if first then redis.call('ZADD', siblings, first, child) end
        is_empty = not first
      end
    elseif level == JOBS and #routes_of(job, claim.lane) < 2 then
      got, is_empty = claim_from(claim, job, 1, share)
    else
      got, is_empty = take(claim, level + 1, siblings .. ':' .. child, job, share)
    end
    taken = taken + got
    if room then claim.add_running(child, got) end
    if is_empty and (got == 0 or level == ROUTES or not next_service and skipped == 0) then
      redis.call('ZREM', siblings, child)
      count_moves(claim, 1)
    elseif level ~= ROUTES and got > 0 and (next_service or skipped > 0) then
      redis.call('ZINCRBY', siblings, got / weight, child)
    end
    if got == 0 and not is_empty then
      skipped = skipped + 1
      if next_service and level ~= ROUTES and tonumber(next_service) - tonumber(service) > MAX_LEAD then
        redis.call('ZADD', siblings, tonumber(next_service) - MAX_LEAD, child)
      end
    end
  end
  return taken, false
end

-- Claims up to `limit` items of a lane that has `free` slots. Returns the number of claimed items, whether more queues
-- may have to be moved to WAITING, and the time at which a limiter may allow more items.
local function take_fairly(lane, limit, interactive_weight, free)
  local claim = {
    lane = lane, interactive_weight = interactive_weight, next_ms = math.huge,
    moves_left = math.max(MIN_MOVES, round_moves), skips_left = math.max(MIN_SKIPS, math.min(16, round_skips)),
  }
  if lane == WEBHOOK_LANE then claim.room, claim.add_running = owner_room(lane, free) end
  local taken = take(claim, OWNERS, FAIR_QUEUE .. lane, nil, limit)
  return taken, claim.moves_left <= 0, claim.next_ms
end
