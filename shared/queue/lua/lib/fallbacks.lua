--- @include "fair_queue"
--- @include "job_cache"
--- @include "attempts"
--- @include "deployments"
-- Moves items on to other routes, because their route cannot serve them. The name of a route says where its items may
-- move:
-- '<model>\31<after_ms><flag>\31<lane>\30<model>\31<lane>\30<model>…'. `flag` is 'c' if items that a moderation refused
-- move on, too. The name of a route that items have moved to begins with '\29', and its model is written as the
-- provider gets it.
-- An item keeps its index, and so its place in the job. MOVED has what was tried before, as JSON, for each item that
-- moved. shared/queue/fallback_chain.py writes the names.
-- Defines for other files: model_of, moved_model, has_fallbacks, wait_before_move, shown_server, may_move,
-- may_move_at_last, calls_of, move_on
local NOT_CONFIGURED = 'not_configured' -- the worker has no configuration of the provider, so it made no call
local MOVES = { model_not_found = true, context_too_long = true, quota_exhausted = true, unauthorized = true }

-- Returns the name of a route's model, in lower case. In the health of an account, the name is the model's scope.
local function model_of(route)
  if not string.find(route, '[\29\31]') then return route end
  return string.lower(string.match(route, '^\29?([^\31]*)'))
end

-- Returns the model of a route that items have moved to, or '' for the model that the item names.
local function moved_model(route) return string.match(route, '^\29([^\31]*)') or '' end

-- Returns whether the items of a route have fallbacks, or have moved to one.
local function has_fallbacks(route) return string.find(route, '[\29\31]') ~= nil end

local function chain_of(route) return string.match(route, '\31(%d+)(c?)\31(.+)$') end

-- Returns the ms that an item of a route waits for an open scope before it moves on, or nil if it does not move.
local function wait_before_move(route)
  return tonumber((chain_of(route)))
end

-- Returns whether an item moves on after a failure with this verdict.
local function may_move(route, verdict)
  local after_ms, flag = chain_of(route)
  return after_ms ~= nil and (MOVES[verdict] or flag == 'c' and verdict == 'content_filtered')
end

-- Returns whether an item moves on after its last failure on a route, with this verdict. Only an invalid request stays,
-- and without the flag 'c' a request that a moderation refused.
local function may_move_at_last(route, verdict)
  return may_move(route, verdict) or chain_of(route) ~= nil and verdict ~= 'rejected' and verdict ~= 'content_filtered'
end

-- Returns the number of calls that a failed attempt has made: 0 or 1.
local function calls_of(fault) return fault.verdict == NOT_CONFIGURED and 0 or 1 end

-- Adds a route to a job, unless the job has it. Returns the list of the job's routes in the lane.
local function add_route(job, lane, route)
  local names = routes_of(job, lane)
  if number_of(job, lane, route) then return names end
  if #names == 0 then job.routes[lane] = names end
  names[#names + 1] = route
  redis.call('HSET', JOB .. job.id, 'routes', cjson.encode(job.routes))
  -- With a second route, the queue of the first one is found through the routes of the job: see fair_queue.lua.
  if #names == 2 then join_path(lane, job.id, job.owner, job.priority_class, names[1]) end
  return names
end

-- Returns the name that users see for a lane: its provider, or the alias.
local function shown_server(lane, model) return string.sub(lane, 1, 1) == '@' and model or provider_of(lane) end

-- Returns what an item was sent to: '<provider>/<model>' or an alias. The items of a route that is named '*' or by a
-- pattern have different models, which the meta names.
local function tried_by(job, index, account, model)
  local server = shown_server(account, model)
  if server == model then return model end
  if not string.find(model, '[*?%[]') then return server .. '/' .. model end
  local block, metas = math.floor(index / META_ITEMS), job.metas or {}
  if not metas[block] then metas[block] = cjson.decode(redis.call('HGET', JOB .. job.id, 'meta:' .. block) or '[]') end
  job.metas = metas
  local meta = metas[block][index % META_ITEMS + 1]
  return server .. '/' .. (meta and meta[3] or model)
end

-- Returns the steps of a chain that serve an item of an alias, without the deployments that were tried. Returns nil if
-- none of the deployments was tried, so that the alias can serve the item.
local function untried_deployments(lane, tried)
  local steps, seen, has_tried = {}, {}, false
  for _, deployment in ipairs(deployments_of(lane, '')) do
    local name = deployment.provider .. '/' .. deployment.scope
    has_tried = has_tried or tried[name]
    if not tried[name] and not seen[name] then steps[#steps + 1] = deployment.provider .. '\30' .. deployment.model end
    seen[name] = true
  end
  return has_tried and steps or nil
end

-- Returns the lane and the model of the first step of a chain that was not tried, and the rest of the chain, or nil.
-- `moved` has what was tried. If a deployment of an alias was tried, the alias stands for its other deployments.
local function next_step(chain, moved)
  local tried = {}
  for _, step in ipairs(moved) do tried[string.lower(step.model)] = true end
  while chain ~= '' do
    local lane, model, rest = string.match(chain, '^\31?([^\30]*)\30([^\31]*)(.*)$')
    local steps = string.sub(lane, 1, 1) == '@' and untried_deployments(lane, tried)
    if steps then
      chain = table.concat(steps, '\31') .. rest
    elseif tried[lane .. '/' .. string.lower(model)] then
      chain = rest
    else
      return lane, model, rest
    end
  end
end

-- Moves an item, which the caller has taken out of its place, to the next route. Returns false if there is no next
-- route, if the job has ended, or if a part of the answer was streamed. `code` is the error code of the failure,
-- `account` and `scope` say what the item was sent to, `calls` is 1 if a call failed and 0 if no call was made, and
-- `claimed_us` is the time of the item's claim ('' without a claim).
local function move_on(lane, job, index, route, claimed_us, code, account, scope, calls)
  local after_ms, flag, rest = chain_of(route)
  if not after_ms or not job.is_unfinished or redis.call('HEXISTS', JOB .. job.id, 'deltas') == 1 then return false end
  local failed, first_claimed_us, _, uncounted = read_attempts(job, index)
  local moved = redis.call('HGET', MOVED .. job.id, index)
  moved = moved and cjson.decode(moved) or {}
  local before = 0
  for _, step in ipairs(moved) do before = before + step.attempts end
  local tried = tried_by(job, index, account, scope)
  moved[#moved + 1] = { model = tried, error_code = code, attempts = failed + uncounted + calls - before }
  local next_lane, next_model, others = next_step(rest, moved)
  if not next_lane then return false end
  local next_route = '\29' .. next_model .. (others ~= '' and '\31' .. after_ms .. flag .. others or '')
  redis.call('HSET', MOVED .. job.id, index, cjson.encode(moved))
  if first_claimed_us == '' then first_claimed_us = claimed_us end
  save_attempts(job, index, 0, first_claimed_us, '', failed + uncounted + calls)
  local names = add_route(job, next_lane, next_route)
  redis.call('ZADD', queue_of(next_lane, job.id, next_route), index, index)
  enqueue(next_lane, job.id, job.owner, job.priority_class, 1, names[2] and next_route)
  return true
end
