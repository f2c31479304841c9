#!lua flags=allow-oom
-- Ends the pauses of a lane, or of one of its scopes, because a person says so: see health_records.lua. The pauses of
-- all keys of a provider end: see deployments.lua. A paused scope becomes healthy. An open scope stays open, and its
-- next probe may run now; if this probe fails, the waits between probes begin again with the shortest wait.
-- One run resumes some of the scopes.
-- ARGV: lane, '<number of the key> <cursor of HSCAN>' ('1 0' in the first run), scope (without this argument: all
--       scopes of the lane)
-- Returns: {the second argument of the next run, or '' after the last run,
--           a list of the scopes of this run that were not healthy, as '<account>' or '<account>/<model>'}
--- @include "clock"
--- @include "is_healthy"
--- @include "health_records"
local MAX_SCOPES = 50 -- about the limit of the scopes of one run
local lane, position, only, resumed = ARGV[1], ARGV[2], ARGV[3], {}

local function resume_scope(account, scope)
  local record = read_record(account, scope)
  if record and (record.opened_ms or record.until_ms > now_ms) then
    resumed[#resumed + 1] = scope == ACCOUNT and account or account .. '/' .. scope
  end
  if record and record.opened_ms then
    record.until_ms, record.pause_ms, record.probe_ms = now_ms, 0, 0
    store_record(account, scope, record)
    redis.call('ZADD', BLOCKED .. account, 'XX', 0, scope)
  elseif record then
    delete_record(account, scope)
  end
end

local number, cursor = string.match(position, '^(%d+) (%d+)$')
number = tonumber(number)
local looked_at = 0
while number <= MAX_KEYS and looked_at < MAX_SCOPES do
  local account, fields = number == 1 and lane or lane .. '#' .. number, { only }
  if only then
    cursor = '0'
  else
    cursor, fields = unpack(redis.call('HSCAN', HEALTH .. account, cursor, 'COUNT', MAX_SCOPES))
  end
  for i = 1, #fields, only and 1 or 2 do
    looked_at = looked_at + 1
    resume_scope(account, fields[i])
  end
  if cursor == '0' then number = number + 1 end
end
if number <= MAX_KEYS then return { number .. ' ' .. cursor, resumed } end
-- Lanes with several deployments may wait for this provider.
for _, other in ipairs(redis.call('ZRANGE', ACTIVE_LANES, 0, -1)) do look_at_all_again(other) end
redis.call('PUBLISH', WAKE, '')
return { '', resumed }
