-- Put before every script, after the constants of shared/keys.py: the steps that several scripts share.
-- An item is in exactly one of QUEUE (of its lane and job), QUARANTINE, DEFERRED, LEASES (of its lane) or
-- RESULTS (of its job); in a job that was ended as a whole, what is in none of them has that end.

-- Redis's clock in ms, exact to the µs: the only clock that decides anything.
local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000
end

-- Lua prints 14 digits of a number; a time in ms needs 16.
local function ms(number) return string.format('%.3f', number) end

local function split(item) return string.match(item, '^(.+):(%d+)$') end

-- Who has been away comes back with the share of those who stayed: nothing is saved up, nothing is owed.
local function enter(shares, child)
  local least = redis.call('ZRANGE', shares, 0, 0, 'WITHSCORES')[2]
  redis.call('ZADD', shares, 'NX', least or 0, child)
end

-- A job has items in its queue of the lane: so many more.
local function line_up(lane, job, owner, class, count)
  redis.call('HINCRBY', DEPTH .. lane, owner, count)
  local shares = SHARES .. lane
  for _, child in ipairs({ owner, class, job }) do
    enter(shares, child)
    shares = shares .. ':' .. child
  end
end

local function leave(lane, owner, count)
  if redis.call('HINCRBY', DEPTH .. lane, owner, -count) <= 0 then redis.call('HDEL', DEPTH .. lane, owner) end
end

-- Jobs that are gone from Redis leave the lists of their owners.
local function forget_expired(now, most)
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', EXPIRING, '-inf', now, 'LIMIT', 0, most)) do
    local owner, job = string.match(entry, '^(%S*) (.+)$')
    redis.call('ZREM', OWNED .. owner, job)
    redis.call('ZREM', EXPIRING, entry)
  end
end

-- The end of a job; `ended_as` is what becomes of the items that have no result, if there are any.
local function end_job(job, now, ended_as)
  local ttl_s, owner, deadline_ms, webhook, key, key_ttl_s =
    unpack(redis.call('HMGET', JOB .. job, 'ttl_s', 'owner', 'deadline_ms', 'webhook', 'key', 'key_ttl_s'))
  redis.call('HSET', JOB .. job, 'finished_ms', ms(now))
  if ended_as then redis.call('HSET', JOB .. job, 'ended_as', ended_as) end
  if deadline_ms then redis.call('ZREM', DEADLINES, job) end
  for _, key in ipairs({ JOB, PAYLOADS, TRIES, RESULTS, ENDED, FAILED }) do redis.call('EXPIRE', key .. job, ttl_s) end
  if key then redis.call('EXPIRE', IDEMPOTENT .. owner .. ':' .. key, key_ttl_s) end
  redis.call('ZADD', EXPIRING, ms(now + ttl_s * 1000), owner .. ' ' .. job)
  forget_expired(now, 2)
  redis.call('PUBLISH', DONE, job)

  -- Its webhook is the only item of a job of its own.
  if webhook then
    local delivery = job .. '.webhook'
    redis.call('HSET', JOB .. delivery, 'total', 1, 'lanes', 'webhooks', 'owner', owner, 'class', 'bulk',
      'ttl_s', ttl_s, 'accepted_ms', ms(now))
    redis.call('HSET', PAYLOADS .. delivery, 0, webhook)
    redis.call('ZADD', QUEUE .. 'webhooks:' .. delivery, 0, 0)
    line_up('webhooks', delivery, owner, 'bulk', 1)
    redis.call('PUBLISH', WAKE, '')
  end
end

-- Ends what is left of a job at once. Leases of running calls stay until their workers have stopped them:
-- the provider still works on those, so they still count against the limit.
local function cut_off(job, now, ended_as)
  local lanes, owner = unpack(redis.call('HMGET', JOB .. job, 'lanes', 'owner'))
  for lane in string.gmatch(lanes, '%S+') do
    local queue = QUEUE .. lane .. ':' .. job
    local waiting = redis.call('ZCARD', queue)
    if waiting > 0 then
      redis.call('UNLINK', queue)
      leave(lane, owner, waiting)
    end
  end
  end_job(job, now, ended_as)
  redis.call('PUBLISH', CANCELLED, job)
end

-- The lowest score, or nil.
local function earliest(zset) return tonumber(redis.call('ZRANGE', zset, 0, 0, 'WITHSCORES')[2]) end

-- Returns when the next one is due, or nil.
local function end_overdue_jobs(now)
  local due = earliest(DEADLINES)
  if not due or due > now then return due end
  for _, job in ipairs(redis.call('ZRANGEBYSCORE', DEADLINES, '-inf', now, 'LIMIT', 0, 100)) do
    cut_off(job, now, 'deadline_exceeded')
  end
  return earliest(DEADLINES)
end

-- PAUSED has the time and, behind a space, why; 0: it is not.
local function paused_until(lane)
  local paused = redis.call('GET', PAUSED .. lane)
  return paused and tonumber(string.match(paused, '^%S+')) or 0
end
