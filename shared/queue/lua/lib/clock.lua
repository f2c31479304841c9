-- Reads the clock of the Redis server once per script, in ms and exact to the µs. No other clock decides anything.
-- Defines for other files: now_ms, ms, earliest
-- Used in each round: now_ms, ms, earliest, time
local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000

-- Formats a time in ms. Lua prints only 14 digits of a number, and a time needs 16.
local function ms(number) return string.format('%.3f', number) end

-- Returns the lowest score of a sorted set, or nil if the set is empty.
local function earliest(zset) return tonumber(redis.call('ZRANGE', zset, 0, 0, 'WITHSCORES')[2]) end
