#!lua flags=allow-oom
-- Makes the workers' rounds publish the progress of some jobs for `follow_s` seconds.
-- ARGV: follow_s, then job ids
-- Returns: the ids of the jobs that have ended or do not exist
--- @include "clock"
local until_ms, ended = ms(now_ms + tonumber(ARGV[1]) * 1000), {}
for i = 2, #ARGV do
  local total, finished_ms = unpack(redis.call('HMGET', JOB .. ARGV[i], 'total', 'finished_ms'))
  if total and not finished_ms then
    redis.call('HSET', JOB .. ARGV[i], 'progress_until_ms', until_ms)
  else
    ended[#ended + 1] = ARGV[i]
  end
end
return ended
