-- Redis's clock in ms, exact to the µs, read once per script: the only clock that decides anything.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000

-- Formats a time in ms: Lua prints 14 digits of a number, and these need 16.
local function ms(number) return string.format('%.3f', number) end

-- Returns the lowest score of a sorted set, or nil if the set is empty.
local function earliest(zset) return tonumber(redis.call('ZRANGE', zset, 0, 0, 'WITHSCORES')[2]) end
