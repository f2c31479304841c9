--- @include "clock"
--- @include "round_reply"
--- @include "is_healthy"
--- @include "deployments"
-- Keeps the health of accounts: of the account as a whole (scope ''), and of each of its models (the scope is the
-- name of the model in lower case). An account is a key of a provider: see deployments.lua. HEALTH has a record for
-- each scope that is paused or open, or whose calls have failed or were refused lately. A scope without a record is
-- healthy.
--   healthy  any number of calls
--   paused   no call before `until_ms`
--   open     no call before `until_ms`, then one call at a time: a *probe*. An answer to a probe makes the scope
--            healthy.
-- Fields of a record:
--   until_ms, pause_ms       end and length of the pause. Invariant: a pause ends at most `pause_ms` from now, even if
--                            Redis's clock was set back: see clock_set_back.lua.
--   opened_ms, probe_ms, probe, last_failed   only while the scope is open: time at which it opened, time between a
--                            failed probe and the next one, lease of the latest probe, item of the latest failed probe
--   time_outs                only while the scope is open: number of probes in a row that timed out
--   reason, verdict, code, status   the latest failure; everybody can read `reason`
--   failures, failed_items   attempts that failed in a row, and the set of their items
--   refusals, refused_ms     refusals in a row, and the time of the latest one. Calls that were claimed before this
--                            time do not count again.
--   noted_ms                 time of the latest failure
--   refused_route, refused_until_ms   in scope '': the model that was refused latest, and the time until which a
--                            refusal of another model shows that the refusals cover the account
--   refused_claim_ms, longest_ms, is_unanswered   in scope '': the time of the claim of the call that was refused
--                            latest, the end of the longest pause of a model, and whether no other model was answered
--                            since the refusal
--   separate_until_ms        in scope '': until then, refusals cover only their models, because other models were
--                            answered
--   is_assumed               in scope '': the account is paused for a back-off only because two routes were refused
-- Invariant: while a scope is open, at most one lease that was claimed after `opened_ms` exists in the scope.
-- Defines for other files: scopes_of, read_record, store_record, delete_record, look_again, look_at_all_again, gate,
-- open_record, mark_probe, end_probe
local KEPT_MS = 8 * 86400000 -- the longest pause is 7 days
local MAX_TIME_OUT_FACTOR = 16 -- limit of the factor of a probe's time-out
local records = {}
local seen_again = {} -- lanes for which `look_again` has called `look_at_all_again` in this round

-- Returns the scopes that a call of a model belongs to. The model is ACCOUNT if the call's job does not exist any more.
local function scopes_of(model) return model == ACCOUNT and { ACCOUNT } or { ACCOUNT, model } end

local function store_record(account, scope, record)
  mark_unhealthy(account)
  records[account .. ' ' .. scope] = record
  redis.call('HSET', HEALTH .. account, scope, cmsgpack.pack(record))
  redis.call('PEXPIRE', HEALTH .. account, KEPT_MS)
end

local function read_record(account, scope)
  if is_healthy(account) then return nil end
  local name = account .. ' ' .. scope
  if records[name] == nil then
    local stored = redis.call('HGET', HEALTH .. account, scope)
    local record = stored and cmsgpack.unpack(stored)
    records[name] = record or false
    local began_ms = record and math.max(record.until_ms - record.pause_ms, record.opened_ms or 0)
    if record and began_ms > now_ms then -- see clock_set_back.lua
      record.until_ms = math.min(record.until_ms, now_ms + record.pause_ms)
      record.opened_ms = record.opened_ms and math.min(record.opened_ms, now_ms)
      store_record(account, scope, record)
    end
  end
  return records[name] or nil
end

-- Makes the queues of a lane look again at the first 100 scopes that they wait for.
local function look_at_all_again(lane)
  local changes = {}
  for _, scope in ipairs(redis.call('ZRANGE', BLOCKED .. lane, 0, 99)) do
    changes[#changes + 1], changes[#changes + 2] = 0, scope
  end
  if changes[1] then redis.call('ZADD', BLOCKED .. lane, 'XX', unpack(changes)) end
end

-- Makes the queues that wait for a scope look at it again, also in the lanes of which the account is a deployment.
local function look_again(account, scope)
  redis.call('ZADD', BLOCKED .. account, 'XX', 0, scope)
  for _, lane in ipairs(lanes_of(account)) do
    if not seen_again[lane] then look_at_all_again(lane) end
    seen_again[lane] = true
  end
end

local function delete_record(account, scope)
  records[account .. ' ' .. scope] = false
  redis.call('HDEL', HEALTH .. account, scope)
  look_again(account, scope)
end

-- Returns the number of items of a scope that may be claimed now: math.huge, 1 or 0. If it is 0, also returns the time
-- at which it may change.
local function gate(account, scope)
  local record = read_record(account, scope)
  if not record then return math.huge end
  if record.until_ms > now_ms then return 0, record.until_ms end
  if not record.opened_ms then return math.huge end
  local expires_ms = record.probe and redis.call('ZSCORE', LEASES .. provider_of(account), record.probe)
  if expires_ms then return 0, tonumber(expires_ms) end
  return 1
end

-- Returns the record of a scope if the scope is open, or nil.
local function open_record(account, scope)
  local record = read_record(account, scope)
  return record and record.opened_ms and record or nil
end

-- Makes a lease the probe of the scopes that are open. The caller has asked `gate` for both scopes. After time-outs the
-- probe gets a longer time-out, twice as long for each probe that timed out: a server that is loading a model may abort
-- the load when its client hangs up, so calls with the usual time-out would never be answered.
local function mark_probe(account, model, lease)
  local factor = 1
  for _, scope in ipairs(scopes_of(model)) do
    local record = open_record(account, scope)
    if record then
      record.probe = lease
      if record.code == 'timeout' then
        factor = math.max(factor, math.min(MAX_TIME_OUT_FACTOR, 2 ^ ((record.time_outs or 0) + 1)))
      end
      store_record(account, scope, record)
    end
  end
  if factor > 1 then longer_time_outs[#longer_time_outs + 1] = { lease, factor } end
end

-- Lets the queues that wait for the end of a probe look at their scope again, after the probe's lease has ended.
local function end_probe(account, model, lease)
  if is_healthy(account) then return end
  for _, scope in ipairs(scopes_of(model)) do
    local record = open_record(account, scope)
    if record and record.probe == lease then look_again(account, scope) end
  end
end
