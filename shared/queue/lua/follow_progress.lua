#!lua
-- Publishes the progress of these jobs for some seconds.
-- ARGV: follow_s, then job ids
-- Returns: the ids of those that have finished or do not exist
--- @include "clock"
local until_ms, finished = ms(now + tonumber(ARGV[1]) * 1000), {}
for i = 2, #ARGV do
  local total, finished_ms = unpack(redis.call('HMGET', JOB .. ARGV[i], 'total', 'finished_ms'))
  if total and not finished_ms then
    redis.call('HSET', JOB .. ARGV[i], 'progress_until_ms', until_ms)
  else
    finished[#finished + 1] = ARGV[i]
  end
end
return finished
