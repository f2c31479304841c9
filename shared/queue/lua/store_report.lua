#!lua flags=allow-oom
-- Stores a worker's report, and adds the counts since the worker's previous report to the history. No decision about an
-- item depends on the report or on the history.
-- ARGV: [1] options as JSON:
--         worker_id ('' records only the current levels of the lanes, without a worker),
--         configured (lanes whose calls the worker can make, separated by commas),
--         called (list of the lanes whose calls have ended since the worker's previous report),
--         step_s (length of a step of the history),
--         kept_s (seconds for which the history and the reports of lost workers are kept)
--       [2] the report as JSON
--       then two values per counter: its field in the history (see shared/monitoring/counters.py), the number to add
--- @include "layout"
--- @include "clock"
--- @include "queue_depth"
local MAX_FIELDS = 5000 -- in a step with more fields, calls to further models are counted together
local MAX_LANES = 100 -- limit of the lanes whose level one run records; the next report records the others
local options, report = cjson.decode(ARGV[1]), ARGV[2]
local worker, step_s, kept_s = options.worker_id, options.step_s, options.kept_s

if worker ~= '' then
  local stored = table.concat({ ms(now_ms), options.configured, report }, ' ')
  redis.call('SET', WORKER_REPORT .. worker, stored, 'EX', kept_s)
  redis.call('ZADD', WORKER_LAST_SEEN, ms(now_ms), worker)
  redis.call('ZREMRANGEBYSCORE', WORKER_LAST_SEEN, '-inf', now_ms - kept_s * 1000)
end
for _, lane in ipairs(options.called) do redis.call('ZADD', CALLED_LANES, ms(now_ms), lane) end
redis.call('ZREMRANGEBYSCORE', CALLED_LANES, '-inf', now_ms - kept_s * 1000)
redis.call('EXPIRE', CALLED_LANES, kept_s)

local step = HISTORY .. math.floor(now_ms / 1000 / step_s) * step_s
-- Only the first report in a step records the level of a lane, so that many workers cost little more than one.
local lanes, fields, recorded = redis.call('ZRANGE', ACTIVE_LANES, 0, 999), {}, 0
for i, lane in ipairs(lanes) do fields[i] = lane .. ' queued' end
local levels = lanes[1] and redis.call('HMGET', step, unpack(fields)) or {}
for i, lane in ipairs(lanes) do
  if not levels[i] and recorded < MAX_LANES then
    recorded = recorded + 1
    redis.call('HSET', step, lane .. ' in_flight', redis.call('ZCARD', LEASES .. lane))
    redis.call('HSET', step, lane .. ' queued', queue_depth(lane))
  end
end
local is_full = redis.call('HLEN', step) > MAX_FIELDS
for i = 3, #ARGV, 2 do
  local counter = ARGV[i]
  if is_full and redis.call('HEXISTS', step, counter) == 0 then
    counter = string.gsub(counter, '^(%S+ calls %S+) .*$', '%1 other')
  end
  redis.call('HINCRBY', step, counter, ARGV[i + 1])
end
redis.call('EXPIRE', step, kept_s + step_s)
