#!lua flags=allow-oom
-- Ends jobs whose deadline or grace period has passed, and removes expired jobs and files from their owners' lists. The
-- workers end overdue jobs in their rounds, but there may be no worker, so the API calls this script. If Redis's clock
-- was set back, the script first corrects the times of JOB_DEADLINES and WORKERS.
-- Returns: 1 if the script must run again immediately, because one run does limited work, or 0
-- Constant: LEASE_MS (time after which a worker that does not renew its leases is lost)
--- @include "clock"
--- @include "files"
--- @include "job_end"
--- @include "clock_set_back"
--- @include "work_limit"
local MAX_FORGOTTEN = 100 -- jobs and files

-- Stores a time in a job's field, and in JOB_DEADLINES if it is earlier than the job's time there.
local function bring_forward(id, field, time_ms)
  redis.call('HSET', JOB .. id, field, ms(time_ms))
  redis.call('ZADD', JOB_DEADLINES, 'XX', 'LT', ms(time_ms), id)
end

local CORRECTION_WORK = 5 -- number of commands for each job

-- Corrects the next deadlines. `cursor` is a cursor of ZSCAN, which returns each job at least once. Correcting a job
-- twice changes nothing. Returns the next cursor.
local function correct_deadlines(cursor)
  local next_cursor, entries = unpack(redis.call('ZSCAN', JOB_DEADLINES, cursor, 'COUNT', 20))
  for i = 1, #entries, 2 do
    local id = entries[i]
    spend(CORRECTION_WORK)
    local accepted_ms, deadline_ms, abandoned_until_ms, grace_ms = unpack(redis.call('HMGET', JOB .. id, 'accepted_ms',
      'deadline_ms', 'abandoned_until_ms', 'grace_ms'))
    if deadline_ms and tonumber(accepted_ms) > now_ms then
      bring_forward(id, 'deadline_ms', now_ms + tonumber(deadline_ms) - tonumber(accepted_ms))
      redis.call('HSET', JOB .. id, 'accepted_ms', ms(now_ms)) -- the time from acceptance to deadline stays the same
    end
    if abandoned_until_ms and tonumber(abandoned_until_ms) > now_ms + tonumber(grace_ms) then
      bring_forward(id, 'abandoned_until_ms', now_ms + tonumber(grace_ms))
    end
  end
  return next_cursor
end

local is_set_back, cursor = read_set_back('api')
if is_set_back then cursor = '0' end
if cursor then -- false if nothing has to be corrected; '' after the last job
  local are_workers_correct
  repeat are_workers_correct = lower(WORKERS, now_ms + LEASE_MS) until are_workers_correct or not has_work_left()
  while are_workers_correct and cursor ~= '' and has_work_left() do
    cursor = correct_deadlines(cursor)
    if cursor == '0' then cursor = '' end
  end
  set_left(cursor)
end
local next_ms = end_overdue_jobs()
local forgotten = forget_expired(MAX_FORGOTTEN) + forget_expired_files(MAX_FORGOTTEN)
local has_more = cursor and cursor ~= '' or next_ms and next_ms <= now_ms or forgotten >= MAX_FORGOTTEN
return has_more and 1 or 0
