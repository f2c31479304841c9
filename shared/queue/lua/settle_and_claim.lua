#!lua flags=allow-oom
-- A worker's round. First it ends leases, each with what becomes of its item; one that is no longer held
-- changes nothing, for the item belongs to somebody else by then, but that it does not count as a death. Then
-- admission: it is given the items that may run now, each with a lease that is its slot of the lane's limit.
-- ARGV: lease_ms, places (items the worker may still take), reserve (places it keeps for each lane), most
--       (items in one claim), weight (of interactive work, against 1 of bulk work), max_deaths, result of an item
--       that reached them, quarantined (how many items from there the worker runs), count of the leases to end,
--       then for each of these: lane, lease, verb, pause (the lane pauses for so many ms; behind a space: why; 0: not),
--       then by verb
--         'end', 'fail'  result    the item has its result
--         'retry'        delay_ms  a failed attempt; again after the delay
--         'return'       ''        not run or not finished, costs no attempt; also drops an item whose job has ended
--       and latency_us of the result, then for each lane: name, limit, running in this worker; no lanes: it takes
--       nothing
-- Returns: ms until asking again makes sense ('' if nothing is foreseeable), then per item: item, lease, lane,
--          payload, attempts so far and, if it was run in vain, '@' and the first claim, deaths, queued_ms, ms until
--          the job's deadline ('': none)
local lease_ms, places, reserve, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local weight, max_deaths, lost_result, quarantined = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7], tonumber(ARGV[8])
local first_lane = 10 + 6 * tonumber(ARGV[9])
local now = clock()
local claim = string.format('%.0f', now * 1000) -- no two rounds are in the same µs

-- What this round needs of a job is read once.
local jobs = {}
local function job_of(id)
  if not jobs[id] then
    local total, owner, class, accepted_ms, started_ms, finished_ms, deadline_ms, followed_ms, tried = unpack(redis.call(
      'HMGET', JOB .. id, 'total', 'owner', 'class', 'accepted_ms', 'started_ms', 'finished_ms', 'deadline_ms',
      'followed_ms', 'tried'))
    jobs[id] = {
      id = id, goes_on = total and not finished_ms, exists = total, total = tonumber(total), owner = owner,
      class = class, accepted_ms = accepted_ms, started = started_ms, deadline_ms = tonumber(deadline_ms),
      followed = followed_ms and tonumber(followed_ms) > now, tried = tried, ended = {}, answered = {}, failed = {},
      latency_us = 0,
    }
  end
  return jobs[id]
end

-- TRIES has, for an item that was run in vain: failed attempts, '@' and the first claim, then each claim whose worker
-- died, a space before it.
local function tries_of(job, index)
  local tries = job.tried and redis.call('HGET', TRIES .. job.id, index) or '0'
  return string.match(tries, '^(%d+)(@?%d*)(.*)$')
end

local function keep_tries(job, index, old_claim, attempts, first, deaths)
  if not job.tried then redis.call('HSET', JOB .. job.id, 'tried', 1) end
  job.tried = true
  if first == '' then first = '@' .. old_claim end
  redis.call('HSET', TRIES .. job.id, index, attempts .. first .. deaths)
end

local function count(deaths) return select(2, string.gsub(deaths, ' ', '')) end

local function set_aside(line, lane, job, index, score)
  redis.call('ZADD', line .. lane, score, job.id .. ':' .. index)
  redis.call('HINCRBY', JOB .. job.id, 'aside', 1)
end

-- Back to the place in line that it had.
local function requeue(lane, job, index)
  if not job.goes_on then return end
  local _, _, deaths = tries_of(job, index)
  if count(deaths) >= max_deaths - 1 then
    set_aside(QUARANTINE, lane, job, index, job.accepted_ms)
  else
    redis.call('ZADD', QUEUE .. lane .. ':' .. job.id, index, index)
    line_up(lane, job.id, job.owner, job.class, 1)
  end
end

-- From QUARANTINE or DEFERRED; returns the job and the index.
local function back_in_line(item)
  local id, index = split(item)
  local job = job_of(id)
  if job.exists then redis.call('HINCRBY', JOB .. id, 'aside', -1) end
  return job, index
end

-- Who settles a lease too late has not died: it stood still, or Redis was away.
local function survived(job, index, old_claim)
  local tries = job.tried and redis.call('HGET', TRIES .. job.id, index)
  if tries then redis.call('HSET', TRIES .. job.id, index, (string.gsub(tries, ' ' .. old_claim, ''))) end
end

local function pause(lane, pause_ms, why)
  local until_ms = now + pause_ms
  if until_ms > paused_until(lane) then
    redis.call('SET', PAUSED .. lane, ms(until_ms) .. why, 'PX', math.ceil(pause_ms) + 1)
  end
end

-- Writes the result of an item unless it has one. Nothing else writes results. The prompt of a failed item is kept
-- as long as the results: it can be retried.
local function end_item(job, index, failed, result, latency_us)
  if not job.goes_on then return end
  if redis.call('HSETNX', RESULTS .. job.id, index, ms(now) .. ' ' .. result) == 0 then return end
  table.insert(job.ended, index)
  table.insert(failed and job.failed or job.answered, index)
  job.latency_us = job.latency_us + latency_us
end

-- With any number of arguments, of which Lua can pass on some thousand; returns the last reply.
local function in_parts(command, key, arguments)
  local reply
  for i = 1, #arguments, 1000 do
    reply = redis.call(command, key, unpack(arguments, i, math.min(i + 999, #arguments)))
  end
  return reply
end

-- What follows from the ends of items; the last one ends the job.
local function count_ended()
  for id, job in pairs(jobs) do
    if #job.ended > 0 then
      in_parts('HDEL', PAYLOADS .. id, job.answered)
      in_parts('SADD', FAILED .. id, job.failed)
      redis.call('HINCRBY', JOB .. id, 'latency_us', job.latency_us)
      if in_parts('RPUSH', ENDED .. id, job.ended) == job.total then
        end_job(id, now)
      elseif job.followed then
        redis.call('PUBLISH', PROGRESS, id)
      end
    end
  end
end

-- First of all: what comes after the deadline is too late, whoever brings it.
local again, left_over = end_overdue_jobs(now), false
local settled = false
for i = 10, first_lane - 1, 6 do
  local lane, lease, verb, last = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 4]
  local id, index, old_claim = string.match(lease, '^(.+):(%d+)@(%d+)$')
  local job = job_of(id)
  if redis.call('ZREM', LEASES .. lane, lease) == 1 then
    settled = true
    if ARGV[i + 3] ~= '0' then
      local pause_ms, why = string.match(ARGV[i + 3], '^(%S+)(.*)$') -- with the space
      pause(lane, tonumber(pause_ms), why)
    end
    if verb == 'end' or verb == 'fail' then
      end_item(job, index, verb == 'fail', last, tonumber(ARGV[i + 5]))
    elseif verb == 'retry' and job.goes_on then
      local attempts, first = tries_of(job, index)
      keep_tries(job, index, old_claim, attempts + 1, first, '')
      if tonumber(last) > 0 then
        set_aside(DEFERRED, lane, job, index, now + tonumber(last))
      else
        requeue(lane, job, index)
      end
    elseif verb == 'return' then
      requeue(lane, job, index)
    end
  else
    survived(job, index, old_claim)
  end
end

local reply = { '' }

local function not_before(time)
  if not again or time < again then again = time end
end

-- A lease past its end: the worker died or was cut off. The item runs again, unless it keeps killing workers.
local function take_back(lane, lease)
  redis.call('ZREM', LEASES .. lane, lease)
  local id, index, old_claim = string.match(lease, '^(.+):(%d+)@(%d+)$')
  local job = job_of(id)
  if not job.goes_on then return end
  local attempts, first, deaths = tries_of(job, index)
  deaths = deaths .. ' ' .. old_claim
  keep_tries(job, index, old_claim, attempts, first, deaths)
  if count(deaths) >= max_deaths then
    end_item(job, index, true, lost_result, 0)
  else
    requeue(lane, job, index)
  end
end

-- Returns how many were.
local function start(lane, job, indexes)
  if not job.goes_on then return 0 end
  if not job.started then redis.call('HSET', JOB .. job.id, 'started_ms', ms(now)) end
  job.started = true
  local payloads = redis.call('HMGET', PAYLOADS .. job.id, unpack(indexes))
  local tries = job.tried and redis.call('HMGET', TRIES .. job.id, unpack(indexes)) or {}
  local queued_ms = ms(now - tonumber(job.accepted_ms))
  local left_ms = job.deadline_ms and ms(job.deadline_ms - now) or ''
  local lease_end, leases = ms(now + lease_ms), {}
  for i, index in ipairs(indexes) do
    if payloads[i] then
      local item = job.id .. ':' .. index
      local lease = item .. '@' .. claim
      leases[#leases + 1], leases[#leases + 2] = lease_end, lease
      local attempts, deaths = '0', ''
      if tries[i] then attempts, deaths = string.match(tries[i], '^(%d+@?%d*)(.*)$') end
      for _, value in ipairs({ item, lease, lane, payloads[i], attempts, count(deaths), queued_ms, left_ms }) do
        reply[#reply + 1] = value
      end
    end
  end
  if #leases > 0 then redis.call('ZADD', LEASES .. lane, unpack(leases)) end
  return #leases / 2
end

-- Fair shares: owners share a lane, the classes of an owner's work its share (by weight), the jobs of a class
-- that. Start-time fair queueing (Goyal, Vin and Cheng 1996) in a tree: the child with the least service is next,
-- and is served until the next but one has had less; where several items run at once, owners and jobs a few items
-- longer, for each change costs. One that has nothing stays until it would be next, so that coming back earns it
-- nothing.
local QUANTUM = 5
local function take(lane, owner, shares, level, child_most)
  local taken = 0
  while taken < child_most do
    local least, service, _, next_service = unpack(redis.call('ZRANGE', shares, 0, 1, 'WITHSCORES'))
    if not least then break end
    local portion = level == 2 and least == 'interactive' and weight or 1
    local share = child_most - taken
    if next_service then
      share = math.min(share, math.floor((tonumber(next_service) - tonumber(service)) * portion) + (level == 2 and 1 or QUANTUM))
    end
    local got
    if level < 3 then
      got = take(lane, level == 1 and least or owner, shares .. ':' .. least, level + 1, share)
    else
      local popped, indexes = redis.call('ZPOPMIN', QUEUE .. lane .. ':' .. least, share), {}
      for i = 1, #popped, 2 do indexes[#indexes + 1] = popped[i] end
      got = #indexes
      if got > 0 then
        leave(lane, owner, got)
        start(lane, job_of(least), indexes)
      end
    end
    taken = taken + got
    if not next_service then
      if got < share then redis.call('ZREM', shares, least) end
      break
    elseif got == 0 then
      redis.call('ZREM', shares, least)
    else
      redis.call('ZINCRBY', shares, got / portion, least)
    end
  end
  return taken
end

-- One item; those whose jobs have ended are dropped.
local function take_quarantined(lane)
  while true do
    local item = redis.call('ZPOPMIN', QUARANTINE .. lane)[1]
    if not item then return 0 end
    local job, index = back_in_line(item)
    if start(lane, job, { index }) > 0 then return 1 end
  end
end

local running, lanes = {}, {}
for i = first_lane, #ARGV, 3 do
  lanes[#lanes + 1] = { name = ARGV[i], limit = tonumber(ARGV[i + 1]) }
  running[ARGV[i]] = tonumber(ARGV[i + 2])
end

-- Places kept free so that one busy lane cannot fill the worker and delay the others.
local function kept_for_others(name)
  local kept = 0
  for lane, n in pairs(running) do
    if lane ~= name then kept = kept + math.max(0, reserve - n) end
  end
  return kept
end

for _, lane in ipairs(lanes) do
  local name = lane.name
  local deferred, leases = DEFERRED .. name, LEASES .. name
  local lease_end, due = earliest(leases), earliest(deferred)
  if lease_end and lease_end <= now then
    for _, lease in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 1000)) do take_back(name, lease) end
    lease_end = earliest(leases)
  end
  if due and due <= now then
    for _, item in ipairs(redis.call('ZRANGEBYSCORE', deferred, '-inf', now, 'LIMIT', 0, 1000)) do
      redis.call('ZREM', deferred, item)
      requeue(name, back_in_line(item))
    end
    due = earliest(deferred)
  end

  local function waits() return redis.call('EXISTS', SHARES .. name, QUARANTINE .. name) > 0 end
  local has_work = waits()
  local paused = has_work and paused_until(name) or 0
  if paused > now then
    not_before(paused)
  elseif has_work then
    local free = lane.limit - redis.call('ZCARD', leases)
    local function room() return math.max(0, math.min(free, places - kept_for_others(name), most)) end
    local function taken(n)
      if n > 0 and not lease_end then lease_end = now + lease_ms end
      running[name], places, most, free = running[name] + n, places - n, most - n, free - n
    end
    if quarantined < 1 and room() > 0 then
      local n = take_quarantined(name)
      quarantined = quarantined + n
      taken(n)
    end
    if room() > 0 then taken(take(name, nil, SHARES .. name, 1, room())) end
    if free > 0 and waits() then
      left_over = true
      if most <= 0 and places > kept_for_others(name) then not_before(now) end
    end
  end

  if due then not_before(due) end
  if lease_end then not_before(lease_end) end
end

count_ended()
-- What this round has freed and not taken is for the others.
if settled and (left_over or #lanes == 0) then redis.call('PUBLISH', WAKE, '') end
if again then reply[1] = ms(math.max(0, again - now)) end
return reply
