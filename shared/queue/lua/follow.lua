#!lua
-- For so long, progress of these jobs is published.
-- ARGV: followed_s, then job ids
-- Returns: those that are done, or gone.
local followed_ms, done = ms(clock() + tonumber(ARGV[1]) * 1000), {}
for i = 2, #ARGV do
  local total, finished_ms = unpack(redis.call('HMGET', JOB .. ARGV[i], 'total', 'finished_ms'))
  if total and not finished_ms then
    redis.call('HSET', JOB .. ARGV[i], 'followed_ms', followed_ms)
  else
    done[#done + 1] = ARGV[i]
  end
end
return done
