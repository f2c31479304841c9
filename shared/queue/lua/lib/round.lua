-- Collects what a round of settle_and_claim.lua returns, what it tells other workers, and what its parts count.
-- Defines for other files: claimed, unreported, patience, has_recovered, ended
-- Used in each round: claimed, unreported, patience, has_recovered, ended
local claimed = {} -- fourteen values per claimed item: see leasing.lua
local unreported = {} -- four values per item that the script finishes: lane, route, error code, queued_ms
local patience = {} -- lease and factor of the time-out, for each probe that gets a longer time-out
local has_recovered = {} -- the lanes in which a scope became healthy
local ended = {} -- numbers of the calls that ended, by provider
