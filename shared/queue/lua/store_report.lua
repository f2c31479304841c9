#!lua flags=allow-oom
-- Stores a worker's report, and adds the counts since the worker's previous report to the history. No decision about an
-- item depends on the report or on the history.
-- ARGV: [1] options as JSON:
--         worker_id ('' records only the current levels of the lanes, without a worker),
--         step_s (length of a step of the history),
--         kept_s (seconds for which the history and the reports of lost workers are kept),
--         lanes: [name, …]
--       [2] the report as JSON
--       then two values per counter: its field in the history (see shared/monitoring/counters.py), the number to add
--- @include "layout"
--- @include "clock"
local options, report = cjson.decode(ARGV[1]), ARGV[2]
local worker, step_s, kept_s, lanes = options.worker_id, options.step_s, options.kept_s, options.lanes

if worker ~= '' then
  redis.call('SET', WORKER_REPORT .. worker, ms(now_ms) .. ' ' .. report, 'EX', kept_s)
  redis.call('ZADD', WORKER_LAST_SEEN, ms(now_ms), worker)
  redis.call('ZREMRANGEBYSCORE', WORKER_LAST_SEEN, '-inf', now_ms - kept_s * 1000)
end

local step = HISTORY .. math.floor(now_ms / 1000 / step_s) * step_s
-- Only the first report in a step records the levels, so that many workers cost little more than one.
if redis.call('HEXISTS', step, lanes[1] .. ' queued') == 0 then
  for _, lane in ipairs(lanes) do
    local queued = 0
    for _, count in ipairs(redis.call('HVALS', DEPTH .. lane)) do queued = queued + count end
    redis.call('HSET', step, lane .. ' in_flight', redis.call('ZCARD', LEASES .. lane), lane .. ' queued', queued)
  end
end
for i = 3, #ARGV, 2 do redis.call('HINCRBY', step, ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', step, kept_s + step_s)
