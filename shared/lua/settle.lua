#!lua flags=allow-oom
-- Ends leases, each with what becomes of its item. A lease that is no longer held changes nothing: the
-- item belongs to somebody else by then.
-- ARGV: wake ('1': others are to claim what this frees), then per lease: lane, lease, verb,
--   pause_ms (the lane pauses for so long; 0: not), then by verb
--   'end'    result    the item has its result
--   'retry'  delay_ms  a failed attempt; again after the delay
--   'return' ''        not run or not finished, costs no attempt; also drops a cancelled item
-- Returns: how many of the leases were held.
local now = clock()
local held = 0

local function pause(lane, pause_ms)
  local until_ms = now + pause_ms
  if until_ms > tonumber(redis.call('GET', PAUSED .. lane) or '0') then
    redis.call('SET', PAUSED .. lane, ms(until_ms), 'PX', math.ceil(pause_ms) + 1)
  end
end

for i = 2, #ARGV, 5 do
  local lane, lease, verb, pause_ms = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
  if redis.call('ZREM', LEASES .. lane, lease) == 1 then
    held = held + 1
    local item = string.match(lease, '^(.+)@%d+$')
    local exists = redis.call('EXISTS', ITEM .. item) == 1
    if pause_ms > 0 then pause(lane, pause_ms) end
    if not exists then
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
  end
end
if ARGV[1] == '1' and held > 0 then redis.call('PUBLISH', WAKE, '') end
return held
