--- @include "clock"
-- Collects the reply of a round of settle_and_claim.lua, and values that several parts of the round share.
-- Defines for other files: claimed, unreported, longer_time_outs, has_recovered, ended, wake_at, next_round_in_ms
-- Used in each round: claimed, unreported, longer_time_outs, has_recovered, ended, next_round_ms, wake_at,
-- next_round_in_ms
local claimed = {} -- the claimed items: see leasing.lua
local unreported = {} -- a list per item that the script has finished with an error: lane, model, error code, queued_ms
local longer_time_outs = {} -- a list per probe that gets a longer time-out: lease, factor of the time-out
local has_recovered = {} -- set of the accounts in which a scope became healthy
local ended = {} -- numbers of the calls that ended, by provider
local next_round_ms = math.huge -- the time at which the next round has something to do

local function wake_at(time_ms)
  if time_ms < next_round_ms then next_round_ms = time_ms end
end

-- Returns '' if the time of the next round is not known.
local function next_round_in_ms()
  return next_round_ms < math.huge and ms(math.max(0, next_round_ms - now_ms)) or ''
end
