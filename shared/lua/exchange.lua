#!lua flags=allow-oom
-- A worker's round. First it ends leases, each with what becomes of its item; one that is no longer held
-- changes nothing, for the item belongs to somebody else by then, but that it does not count as a death. Then admission: it is given the items that may
-- run now, each with a lease that is its slot of the lane's limit.
-- ARGV: lease_ms, places (items the worker may still take), reserve (places it keeps for each lane), most
--       (items in one claim), max_deaths, result of an item that reached them, quarantined (how many items
--       from there the worker runs), count of the leases to end, then for each of these: lane, lease, verb,
--       pause_ms (the lane pauses for so long; 0: not), then by verb
--         'end'    result    the item has its result
--         'retry'  delay_ms  a failed attempt; again after the delay
--         'return' ''        not run or not finished, costs no attempt; also drops a cancelled item
--       then for each lane: name, limit, running in this worker; no lanes: it takes nothing
-- Returns: ms until asking again makes sense ('' if nothing is foreseeable), then per item:
--          item, lease, lane, payload, attempts so far, deaths, queued_ms
local lease_ms, places, reserve, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local max_deaths, lost_result, quarantined = tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[7])
local first_lane = 9 + 5 * tonumber(ARGV[8])
local now = clock()

local function item_of(lease) return string.match(lease, '^(.+)@%d+$') end

-- The field deaths has the claims whose workers died, each with a space after it.
local function count(deaths) return select(2, string.gsub(deaths or '', ' ', '')) end

-- Back to the place in line that the time of acceptance gives it.
local function requeue(lane, item)
  local accepted_ms, deaths = unpack(redis.call('HMGET', ITEM .. item, 'accepted_ms', 'deaths'))
  local line = count(deaths) >= max_deaths - 1 and QUARANTINE or QUEUE
  redis.call('ZADD', line .. lane, accepted_ms, item)
end

-- Who settles a lease too late has not died: it stood still, or Redis was away.
local function survived(lease)
  local item, claim = string.match(lease, '^(.+)@(%d+)$')
  local deaths = redis.call('HGET', ITEM .. item, 'deaths')
  if not deaths then return end
  redis.call('HSET', ITEM .. item, 'deaths', (string.gsub(deaths, '%f[%d]' .. claim .. ' ', '')))
end

local function pause(lane, pause_ms)
  local until_ms = now + pause_ms
  if until_ms > tonumber(redis.call('GET', PAUSED .. lane) or '0') then
    redis.call('SET', PAUSED .. lane, ms(until_ms), 'PX', math.ceil(pause_ms) + 1)
  end
end

local settled = false
for i = 9, first_lane - 1, 5 do
  local lane, lease, verb, pause_ms = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
  if redis.call('ZREM', LEASES .. lane, lease) == 1 then
    settled = true
    local item = item_of(lease)
    if pause_ms > 0 then pause(lane, pause_ms) end
    if redis.call('EXISTS', ITEM .. item) == 0 then
      -- Cancelled meanwhile: its result is written, only the slot was still held.
    elseif verb == 'end' then
      end_item(item, ARGV[i + 4], now)
    elseif verb == 'retry' then
      local delay_ms = tonumber(ARGV[i + 4])
      redis.call('HINCRBY', ITEM .. item, 'attempts', 1)
      redis.call('HDEL', ITEM .. item, 'deaths')
      if delay_ms > 0 then redis.call('ZADD', DEFERRED .. lane, now + delay_ms, item) else requeue(lane, item) end
    else
      requeue(lane, item)
    end
  else
    survived(lease)
  end
end

local again, left_over = nil, false
local reply = { '' }

local function not_before(time)
  if not again or time < again then again = time end
end

-- A lease past its end: the worker died or was cut off. The item runs again, unless it keeps killing workers.
local function take_back(lane, lease)
  redis.call('ZREM', LEASES .. lane, lease)
  local item, claim = string.match(lease, '^(.+)@(%d+)$')
  if redis.call('EXISTS', ITEM .. item) == 0 then return end
  local deaths = (redis.call('HGET', ITEM .. item, 'deaths') or '') .. claim .. ' '
  redis.call('HSET', ITEM .. item, 'deaths', deaths)
  if count(deaths) >= max_deaths then
    end_item(item, lost_result, now)
  else
    requeue(lane, item)
  end
end

local function start(lane, item)
  local payload, accepted_ms, attempts, deaths =
    unpack(redis.call('HMGET', ITEM .. item, 'payload', 'accepted_ms', 'attempts', 'deaths'))
  if not payload then return end
  local lease = item .. '@' .. redis.call('HINCRBY', ITEM .. item, 'claims', 1)
  redis.call('ZADD', LEASES .. lane, now + lease_ms, lease)
  redis.call('HSETNX', JOB .. string.match(item, '^(.+):'), 'started_ms', ms(now))
  local queued_ms = ms(now - tonumber(accepted_ms))
  for _, value in ipairs({ item, lease, lane, payload, attempts or '0', count(deaths), queued_ms }) do
    reply[#reply + 1] = value
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
  for lane, count in pairs(running) do
    if lane ~= name then kept = kept + math.max(0, reserve - count) end
  end
  return kept
end

for _, lane in ipairs(lanes) do
  local name = lane.name
  local queue, quarantine, deferred, leases = QUEUE .. name, QUARANTINE .. name, DEFERRED .. name, LEASES .. name
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
    local function take(line, count)
      count = math.min(count, free, places - kept_for_others(name), most)
      if count <= 0 then return 0 end
      local popped = redis.call('ZPOPMIN', line, count)
      for i = 1, #popped, 2 do start(name, popped[i]) end
      local taken = #popped / 2
      running[name], places, most, free = running[name] + taken, places - taken, most - taken, free - taken
      return taken
    end
    quarantined = quarantined + take(quarantine, 1 - quarantined)
    take(queue, most)
    if free > 0 and redis.call('ZCARD', queue) + redis.call('ZCARD', quarantine) > 0 then
      left_over = true
      if most <= 0 and places > kept_for_others(name) then not_before(now) end
    end
  end

  local due = redis.call('ZRANGE', deferred, 0, 0, 'WITHSCORES')[2]
  if due then not_before(tonumber(due)) end
  local lease_end = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')[2]
  if lease_end then not_before(tonumber(lease_end)) end
end

-- What this round has freed and not taken is for the others.
if settled and (left_over or #lanes == 0) then redis.call('PUBLISH', WAKE, '') end
if again then reply[1] = ms(math.max(0, again - now)) end
return reply
