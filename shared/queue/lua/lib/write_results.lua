--- @include "clock"
--- @include "round_reply"
--- @include "job_cache"
--- @include "job_end"
-- Writes results. No other file writes results.
-- Defines for other files: write_result, finish_failed, record_finished_items
-- Used in each round: write_result, record_finished_items, call_in_parts, now_text

local now_text = false -- the time as a stored result has it; false until the first result

-- Writes the result of an item, unless the item has a result or its job has ended. Returns true if it has written the
-- result.
local function write_result(job, index, failed, result, latency_us)
  if not job.is_unfinished then return end
  now_text = now_text or ms(now_ms) .. ' '
  if redis.call('HSETNX', RESULTS .. job.id, index, now_text .. result) == 0 then return end
  local finished, of_kind = job.finished_items, failed and job.failed_items or job.answered_items
  finished[#finished + 1], of_kind[#of_kind + 1] = index, index
  job.latency_us = job.latency_us + latency_us
  return true
end

-- Writes the result of an item that fails by the decision of a script, so that the worker does not know of it.
local function finish_failed(lane, model, job, index, result, code, latency_us)
  if not write_result(job, index, true, result, latency_us) then return end
  unreported[#unreported + 1] = { lane, model, code, ms(math.max(0, now_ms - tonumber(job.accepted_ms))) }
end

-- Calls a command with a list of arguments, 1,000 at a time, because Lua's `unpack` returns fewer than 8,000 values.
-- Returns the last reply, or nil if the list is empty.
local function call_in_parts(command, key, arguments)
  local reply
  for i = 1, #arguments, 1000 do
    reply = redis.call(command, key, unpack(arguments, i, math.min(i + 999, #arguments)))
  end
  return reply
end

-- Records the items that have finished in this round; the last item completes its job. The payload of a failed item is
-- kept as long as the results, because the item can be retried.
local function record_finished_items()
  for id, job in pairs(jobs) do
    if #job.finished_items > 0 then
      call_in_parts('HDEL', PAYLOADS .. id, job.answered_items)
      call_in_parts('SADD', FAILED .. id, job.failed_items)
      redis.call('HINCRBY', JOB .. id, 'latency_us', job.latency_us)
      if call_in_parts('RPUSH', COMPLETION_ORDER .. id, job.finished_items) == job.total then
        end_job(id)
      elseif job.is_followed then
        redis.call('PUBLISH', JOB_PROGRESS, id)
      end
    end
  end
end
