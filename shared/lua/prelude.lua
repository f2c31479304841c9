-- Put before every script, after the constants of shared/keys.py: the steps that several scripts share.
-- An item is in exactly one of QUEUE, QUARANTINE, DEFERRED, LEASES (of its lane) or RESULTS (of its job).

-- Redis's clock in ms, exact to the µs: the only clock that decides anything.
local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000
end

-- Lua prints 14 digits of a number; a time in ms needs 16.
local function ms(number) return string.format('%.3f', number) end

-- Writes the result of an item unless it has one; the last one ends the job. Nothing else writes results.
local function end_item(item, result, now)
  local job, index = string.match(item, '^(.+):(%d+)$')
  redis.call('UNLINK', ITEM .. item)
  if redis.call('HSETNX', RESULTS .. job, index, ms(now) .. ' ' .. result) == 0 then return end
  local total, ttl = unpack(redis.call('HMGET', JOB .. job, 'total', 'ttl_s'))
  if redis.call('HLEN', RESULTS .. job) == tonumber(total) then
    redis.call('HSET', JOB .. job, 'finished_ms', ms(now))
    redis.call('EXPIRE', JOB .. job, ttl)
    redis.call('EXPIRE', RESULTS .. job, ttl)
    redis.call('PUBLISH', DONE, job)
  end
end
