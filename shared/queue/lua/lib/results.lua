--- @include "clock"
--- @include "job_cache"
--- @include "job_end"
-- Writes results; nothing else does.

-- Writes the result of an item unless it has one.
local function write_result(job, index, failed, result, latency_us)
  if not job.unfinished then return end
  if redis.call('HSETNX', RESULTS .. job.id, index, ms(now) .. ' ' .. result) == 0 then return end
  table.insert(job.finished_items, index)
  table.insert(failed and job.failed_items or job.answered_items, index)
  job.latency_us = job.latency_us + latency_us
end

-- Calls a command with any number of arguments: Lua can pass on some thousand. Returns the last reply.
local function call_in_parts(command, key, arguments)
  local reply
  for i = 1, #arguments, 1000 do
    reply = redis.call(command, key, unpack(arguments, i, math.min(i + 999, #arguments)))
  end
  return reply
end

-- Records the items that have finished in this round; the last one finishes its job. The payload of a failed item is
-- kept as long as the results, because the item can be retried.
local function record_finished_items()
  for id, job in pairs(jobs) do
    if #job.finished_items > 0 then
      call_in_parts('HDEL', PAYLOADS .. id, job.answered_items)
      call_in_parts('SADD', FAILED .. id, job.failed_items)
      redis.call('HINCRBY', JOB .. id, 'latency_us', job.latency_us)
      if call_in_parts('RPUSH', COMPLETION_ORDER .. id, job.finished_items) == job.total then
        finish_job(id)
      elseif job.followed then
        redis.call('PUBLISH', JOB_PROGRESS, id)
      end
    end
  end
end
