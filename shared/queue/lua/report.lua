#!lua flags=allow-oom
-- What a worker says of itself, and what it has counted since its last report; from others, only what there is.
-- None of it decides anything.
-- ARGV: worker id ('': no worker), its report as JSON, bucket_s, kept_s (both the history and what lost workers have
--       said last), count of lanes, these, then per count: field, number
--- @include "clock"
local worker, bucket_s, kept_s = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local last_lane = 5 + tonumber(ARGV[5])

if worker ~= '' then
  redis.call('SET', WORKER_REPORT .. worker, ms(now) .. ' ' .. ARGV[2], 'EX', kept_s)
  redis.call('ZADD', WORKER_LAST_SEEN, ms(now), worker)
  redis.call('ZREMRANGEBYSCORE', WORKER_LAST_SEEN, '-inf', now - kept_s * 1000)
end

local bucket = HISTORY .. math.floor(now / 1000 / bucket_s) * bucket_s
-- Once for each bucket, by whoever comes first: many workers are to cost little more than one.
if redis.call('HEXISTS', bucket, ARGV[6] .. ' queued') == 0 then
  for i = 6, last_lane do
    local queued = 0
    for _, count in ipairs(redis.call('HVALS', DEPTH .. ARGV[i])) do queued = queued + count end
    redis.call('HSET', bucket, ARGV[i] .. ' in_flight', redis.call('ZCARD', LEASES .. ARGV[i]), ARGV[i] .. ' queued', queued)
  end
end
for i = last_lane + 1, #ARGV, 2 do redis.call('HINCRBY', bucket, ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', bucket, kept_s + bucket_s)
