#!lua flags=allow-oom
-- Admission: hands out the items that may run now, each with a lease that is its slot of the lane's limit.
-- ARGV: lease_ms, places (items this worker may still take), reserve (places it keeps for each lane),
--       most (items in one claim), max_deaths, result of an item that reached them, share ('1': wake
--       the others if runnable items are left over), then per lane: name, limit, running in this worker
-- Returns: ms until asking again makes sense ('' if nothing is foreseeable), then per item:
--          item, lease, lane, payload, attempts so far, queued_ms
local lease_ms, places, reserve, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local max_deaths, lost_result, share = tonumber(ARGV[5]), ARGV[6], ARGV[7] == '1'
local now = clock()
local again, left_over = nil, false
local reply = { '' }

local function not_before(time)
  if not again or time < again then again = time end
end

-- A lease past its end: the worker died or was cut off. The item runs again, unless it keeps killing workers.
local function take_back(lane, lease)
  redis.call('ZREM', LEASES .. lane, lease)
  local item = string.match(lease, '^(.+)@%d+$')
  if redis.call('EXISTS', ITEM .. item) == 0 then return end
  if redis.call('HINCRBY', ITEM .. item, 'deaths', 1) >= max_deaths then
    end_item(item, lost_result, now)
  else
    requeue(lane, item)
  end
end

local function start(lane, item)
  local payload, accepted_ms, attempts = unpack(redis.call('HMGET', ITEM .. item, 'payload', 'accepted_ms', 'attempts'))
  if not payload then return end
  local lease = item .. '@' .. redis.call('HINCRBY', ITEM .. item, 'claims', 1)
  redis.call('ZADD', LEASES .. lane, now + lease_ms, lease)
  redis.call('HSETNX', JOB .. string.match(item, '^(.+):'), 'started_ms', ms(now))
  for _, value in ipairs({ item, lease, lane, payload, attempts or '0', ms(now - tonumber(accepted_ms)) }) do
    reply[#reply + 1] = value
  end
end

local running, lanes = {}, {}
for i = 8, #ARGV, 3 do
  lanes[#lanes + 1] = { name = ARGV[i], limit = tonumber(ARGV[i + 1]) }
  running[ARGV[i]] = tonumber(ARGV[i + 2])
end

-- Places kept free so that one busy lane cannot fill the worker and delay the others.
local function kept_for_others(name)
  local kept = 0
  for lane, count in pairs(running) do
    if lane ~= name then kept = kept + math.max(0, reserve - count) end
  end
  return kept
end

for _, lane in ipairs(lanes) do
  local name = lane.name
  local queue, deferred, leases = QUEUE .. name, DEFERRED .. name, LEASES .. name
  for _, lease in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 1000)) do take_back(name, lease) end
  for _, item in ipairs(redis.call('ZRANGEBYSCORE', deferred, '-inf', now, 'LIMIT', 0, 1000)) do
    redis.call('ZREM', deferred, item)
    requeue(name, item)
  end

  local paused = tonumber(redis.call('GET', PAUSED .. name) or '0')
  if paused > now then
    not_before(paused)
  else
    local free = lane.limit - redis.call('ZCARD', leases)
    local take = math.min(free, places - kept_for_others(name), most)
    if take > 0 then
      local popped = redis.call('ZPOPMIN', queue, take)
      for i = 1, #popped, 2 do start(name, popped[i]) end
      local count = #popped / 2
      running[name], places, most, free = running[name] + count, places - count, most - count, free - count
    end
    if free > 0 and redis.call('ZCARD', queue) > 0 then
      left_over = true
      if places > kept_for_others(name) then not_before(now) end  -- only `most` stopped it
    end
  end

  local due = redis.call('ZRANGE', deferred, 0, 0, 'WITHSCORES')[2]
  if due then not_before(tonumber(due)) end
  local lease_end = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')[2]
  if lease_end then not_before(tonumber(lease_end)) end
end

if left_over and share then redis.call('PUBLISH', WAKE, '') end
if again then reply[1] = ms(math.max(0, again - now)) end
return reply
