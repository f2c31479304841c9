--- @include "clock"
--- @include "fair_queue"
--- @include "job_cache"
--- @include "ids"
--- @include "attempts"
--- @include "health_records"
--- @include "pauses"
--- @include "is_healthy"
--- @include "blocking_scope"
--- @include "limits_in_force"
--- @include "limiters"
--- @include "deployments"
--- @include "fallbacks"
--- @include "deployment_choice"
--- @include "write_results"
--- @include "clock_set_back"
--- @include "work_limit"
-- Keeps the queues that wait for a scope to take calls (see health_records.lua) or for a limiter. When a claim meets a
-- queue whose scope takes no call, it moves the queue from the tree of fair_queue.lua to WAITING, so that later claims
-- do not meet the queue again. The items of the queue stay in QUEUE.
-- BLOCKED is the index of these scopes, by the next time at which something can change.
-- The score of a queue in WAITING is the earliest time at which its items may give up, while the scope is open. At this
-- time the items move on to their next route, or fail with the scope's latest failure. If the scope has opened again in
-- the meantime, the queue gets a later time instead.
-- Invariant: a queue with items is in the tree, or waits for a scope that is in BLOCKED.
-- Defines for other files: waiting_record, give_up_ms, block, give_up_item, resume_blocked
local MAX_SCOPES = 32 -- limit of scopes per lane and round
local queues_left = 32 -- limit of the queues that a round moves
-- Numbers of commands for an item that finishes, an item that moves on to another route, and a queue that is looked at
local FINISH_WORK, MOVE_WORK, QUEUE_WORK = 6, 16, 12
local MAX_GIVE_UP = 50 -- limit of the items of a queue that give up in one step
local MAX_CANDIDATES = 16 -- limit of queues that are looked at for a probe
local INTERACTIVE_WAIT_MS = math.min(30000, OUTAGE_WAIT_MS)
-- With these verdicts, interactive items and items with fallbacks do not wait.
local AT_ONCE = { unauthorized = true, quota_exhausted = true }

local function waiting(lane, scope) return WAITING .. lane .. ':' .. scope end

-- Returns the time at which the items of a job's route stop waiting for an open scope.
local function give_up_ms(job, record, route)
  local wait_ms = OUTAGE_WAIT_MS
  if job.priority_class == 'interactive' then wait_ms = AT_ONCE[record.verdict] and 0 or INTERACTIVE_WAIT_MS end
  local before_move_ms = route and wait_before_move(route)
  if before_move_ms then wait_ms = AT_ONCE[record.verdict] and 0 or math.min(wait_ms, before_move_ms) end
  local accepted_ms = tonumber(job.accepted_ms)
  if accepted_ms > now_ms then accepted_ms = 0 end -- Redis's clock was set back
  return math.max(record.opened_ms, accepted_ms) + wait_ms
end

-- Returns the record of the scope that a queue waits for, if the scope is open, or nil.
local function waiting_record(lane, scope)
  if is_plain(lane) then return open_record(lane, scope) end
  return deployments_record(lane, scope)
end

-- Moves a queue, which the caller removes from the tree, to WAITING.
local function block(lane, scope, job, number, next_ms)
  local record = waiting_record(lane, scope)
  local until_ms = record and give_up_ms(job, record, routes_of(job, lane)[number]) or now_ms
  redis.call('ZADD', waiting(lane, scope), ms(queue_time(until_ms)), job.id .. ' ' .. number)
  redis.call('ZADD', BLOCKED .. lane, 'LT', ms(queue_time(record and math.min(next_ms, until_ms) or next_ms)), scope)
  mark_unhealthy(lane)
end

local function split_queue(lane, member)
  local id, number = string.match(member, '^(%S*) (%d+)$')
  local job = load_job(id)
  number = tonumber(number)
  return job, routes_of(job, lane)[number], number
end

-- Finishes an item with the latest failure of an open scope.
local function finish_unsent(lane, model, job, index, record)
  local failed, _, _, uncounted = read_attempts(job, index)
  local moved = redis.call('HGET', MOVED .. job.id, index)
  local result, unanswered_s = cjson.decode(WAITED_RESULT), (now_ms - record.opened_ms) / 1000
  result.error = string.format(result.error, shown_server(lane, model), record.reason, unanswered_s)
  result.error_code, result.status_code, result.attempts = record.code, record.status, failed + uncounted
  result.queued_ms = math.max(0, now_ms - tonumber(job.accepted_ms))
  result.route = moved and cjson.decode(moved) or nil
  finish_failed(lane, model, job, index, cjson.encode(result), record.code, 0)
end

-- Moves an item that has waited for too long on to its next route, or finishes it.
local function give_up_item(lane, route, job, index, record)
  if not move_on(lane, job, index, route, '', record.code, lane, model_of(route), 0) then
    finish_unsent(lane, model_of(route), job, index, record)
  end
end

-- Moves items on or finishes them, if their queues have waited for an open scope for too long: see `give_up_item`.
local function give_up(lane, scope, record)
  while has_work_left() do
    local member = redis.call('ZRANGEBYSCORE', waiting(lane, scope), '-inf', queue_time(now_ms), 'LIMIT', 0, 1)[1]
    if not member then return end
    local job, route = split_queue(lane, member)
    local has_items = route and job.is_unfinished
    local until_ms = has_items and give_up_ms(job, record, route)
    if has_items and until_ms > now_ms then
      redis.call('ZADD', waiting(lane, scope), ms(queue_time(until_ms)), member)
    else
      local popped = has_items and redis.call('ZPOPMIN', queue_of(lane, job.id, route), MAX_GIVE_UP) or {}
      if #popped > 0 then dequeue(lane, job.owner, #popped / 2) end
      for i = 1, #popped, 2 do give_up_item(lane, route, job, popped[i], record) end
      if #popped < 2 * MAX_GIVE_UP then redis.call('ZREM', waiting(lane, scope), member) end
      spend((has_items and wait_before_move(route) and MOVE_WORK or FINISH_WORK) * #popped / 2)
    end
    spend(QUEUE_WORK)
  end
end

-- Returns up to MAX_CANDIDATES of the queues that wait for a scope, in a random order. Queues whose model is open come
-- last, because a probe of another model says more about the account.
local function probe_candidates(lane, scope, queues)
  local members, candidates, last = redis.call('ZRANDMEMBER', queues, MAX_CANDIDATES), {}, {}
  for i = 1, #members do
    -- Redis does not shuffle a set with fewer members.
    local member = members[math.floor(i + now_ms * 1000) % #members + 1]
    local route = scope == ACCOUNT and select(2, split_queue(lane, member))
    local list = route and open_record(lane, model_of(route)) and last or candidates
    list[#list + 1] = member
  end
  for _, member in ipairs(last) do candidates[#candidates + 1] = member end
  return candidates
end

-- Moves queues back to the tree, or to another scope that takes no call. If the scope takes only a probe, moves one
-- random queue to the tree. If several queues wait, this is not the queue whose only item was the last failed probe.
-- Returns true if it has moved a queue for a probe.
local function resume(lane, scope, is_probe)
  local queues, last_failed = waiting(lane, scope), (waiting_record(lane, scope) or {}).last_failed
  local count = redis.call('ZCARD', queues)
  local members = is_probe and probe_candidates(lane, scope, queues)
    or queues_left > 0 and redis.call('ZRANGE', queues, 0, queues_left - 1) or {}
  for _, member in ipairs(members) do
    if not has_work_left() then return end
    spend(QUEUE_WORK)
    local job, route, number = split_queue(lane, member)
    local items = route and job.is_unfinished and redis.call('ZRANGE', queue_of(lane, job.id, route), 0, 1) or {}
    local has_failed = is_probe and #items == 1 and last_failed == item_of(job.id, items[1], number)
    if not (has_failed and count > 1) then
      redis.call('ZREM', queues, member)
      queues_left = queues_left - 1
      local other, other_next_ms = blocking_scope(lane, route and model_of(route))
      if #items > 0 and other then
        block(lane, other, job, number, other_next_ms)
      elseif #items > 0 then
        join_path(lane, job.id, job.owner, job.priority_class, routes_of(job, lane)[2] and route)
        if is_probe then return true end
      end
    end
  end
end

-- Returns how many items may be claimed of the queues that wait for a limiter; if none, also when it may allow some.
local function limiter_gate(lane, scope)
  local member = redis.call('ZRANGE', waiting(lane, scope), 0, 0)[1]
  local _, route = split_queue(lane, member or ' 0')
  for _, limiter in ipairs(route and limiters_of(lane, model_of(route)) or {}) do
    if LIMITER .. limiter.name == scope then
      local room, next_ms = limiter_room(lane, limiter, 0, 0)
      return room, room == 0 and math.min(next_ms or math.huge, now_ms + LEASE_MS) or nil
    end
  end
  return math.huge
end

-- Looks at the scopes that may have changed. Returns the next time at which a scope may change, or nil.
local function resume_blocked(lane)
  local changing = redis.call('ZRANGEBYSCORE', BLOCKED .. lane, '-inf', queue_time(now_ms), 'LIMIT', 0, MAX_SCOPES)
  for _, scope in ipairs(changing) do
    if not has_work_left() then break end
    spend(QUEUE_WORK)
    local record = waiting_record(lane, scope)
    if record then give_up(lane, scope, record) end
    local allowed, next_ms = (is_plain(lane) and gate or deployments_gate)(lane, scope)
    local is_probe = allowed == 1
    if string.sub(scope, 1, #LIMITER) == LIMITER then allowed, next_ms = limiter_gate(lane, scope) end
    -- If no worker has a slot for the queue that was moved for a probe, another queue is moved a second later.
    if allowed > 0 and resume(lane, scope, is_probe) then next_ms = now_ms + FIRST_PROBE_MS end
    local until_ms = clock_time(earliest(waiting(lane, scope)))
    if until_ms then
      next_ms = next_ms or now_ms
      redis.call('ZADD', BLOCKED .. lane, ms(queue_time(record and math.min(next_ms, until_ms) or next_ms)), scope)
    else
      redis.call('ZREM', BLOCKED .. lane, scope)
    end
  end
  return clock_time(earliest(BLOCKED .. lane))
end
