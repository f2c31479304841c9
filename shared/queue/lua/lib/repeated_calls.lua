--- @include "clock"
-- Gives the job of a disconnected client to the client that posts the same body again: see abandon.lua. A live call of
-- OpenAI's API is also given to a client that says that it repeats the call, because the disconnect of the first client
-- may be noticed late or never, for example behind a proxy or if the API was killed.
-- Defines for other files: adopt, add_live_call, join
local LIVE_CALL_TTL_S = 3600 -- clients that wait for longer do not repeat their calls
local JOIN_ANSWERED_MS = 10000 -- longer than OpenAI's clients wait before they repeat a call
local MAX_LIVE_CALLS = 100 -- limit of the calls with the same body that can be joined: the latest

local function add_live_call(live_calls, id)
  redis.call('RPUSH', live_calls, id)
  redis.call('LTRIM', live_calls, -MAX_LIVE_CALLS, -1) -- finished calls stay in the list
  redis.call('EXPIRE', live_calls, LIVE_CALL_TTL_S)
end

-- Returns the id of a job of this owner and body whose client has disconnected, or nil. The job continues. A further
-- client gets the job only after this client has disconnected, too. A job that was cancelled and a live call that
-- failed are not returned.
local function adopt(owner, body_digest)
  local abandoned = ABANDONED .. owner .. ':' .. body_digest
  for _ = 1, MAX_LIVE_CALLS do
    local id = redis.call('LPOP', abandoned)
    if not id then return nil end
    local until_ms, finished_early_as, deadline_ms, live_digest = unpack(redis.call('HMGET', JOB .. id,
      'abandoned_until_ms', 'finished_early_as', 'deadline_ms', 'live_digest'))
    local has_failed = live_digest and redis.call('EXISTS', FAILED .. id) == 1 -- then the call is made again
    if until_ms and tonumber(until_ms) > now_ms and finished_early_as ~= 'cancelled' and not has_failed then
      redis.call('HDEL', JOB .. id, 'abandoned_until_ms')
      local live_calls = LIVE_CALLS .. owner .. ':' .. body_digest
      -- The call becomes the last one, so that a repetition of another call does not join it.
      if live_digest and redis.call('LREM', live_calls, 1, id) == 1 then add_live_call(live_calls, id) end
      if deadline_ms then
        redis.call('ZADD', JOB_DEADLINES, 'XX', deadline_ms, id)
      else
        redis.call('ZREM', JOB_DEADLINES, id)
      end
      return id
    end
  end
end

-- Removes from the list one call that has just failed. Returns true if the list had such a call.
local function take_failed(live_calls)
  for _, id in ipairs(redis.call('LRANGE', live_calls, 0, -1)) do
    local finished_ms = redis.call('HGET', JOB .. id, 'finished_ms')
    local is_recent = finished_ms and tonumber(finished_ms) + JOIN_ANSWERED_MS > now_ms
    if is_recent and redis.call('EXISTS', FAILED .. id) == 1 then
      return redis.call('LREM', live_calls, 1, id) == 1
    end
  end
end

-- Returns the id of a live call of this owner and body that is unfinished, or nil. Several such calls are returned in
-- turn, so that each repetition gets another call. Also returns, once, a call that has just been answered, because its
-- client may have disconnected before it could read the answer. Returns nil once for each call that has just failed:
-- the client of this call has read the error and repeats the call, and must not get the answer to another client that
-- has sent the same body.
local function join(owner, body_digest)
  local live_calls = LIVE_CALLS .. owner .. ':' .. body_digest
  if take_failed(live_calls) then return nil end
  for _ = 1, MAX_LIVE_CALLS do
    local id = redis.call('LPOP', live_calls)
    if not id then return nil end
    local total, finished_ms, finished_early_as = unpack(redis.call('HMGET', JOB .. id, 'total', 'finished_ms',
      'finished_early_as'))
    if total and not finished_ms then
      add_live_call(live_calls, id)
      redis.call('HINCRBY', JOB .. id, 'joined', 1)
      return id
    elseif total and not finished_early_as and tonumber(finished_ms) + JOIN_ANSWERED_MS > now_ms
      and redis.call('EXISTS', FAILED .. id) == 0 then
      return id
    end
  end
end
