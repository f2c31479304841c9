--- @include "clock"
--- @include "job_cache"
--- @include "attempts"
--- @include "moves"
-- Gives items leases. `claimed` collects, per item, the nine values that settle_and_claim.lua returns.
local claim = string.format('%.0f', now * 1000) -- unique: no two rounds run in the same µs
local claimed = {}

-- Leases items of a job. Returns how many: those whose job has finished are dropped.
local function lease_items(lane, job, indexes)
  if not job.unfinished then return 0 end
  if not job.started then redis.call('HSET', JOB .. job.id, 'started_ms', ms(now)) end
  job.started = true
  local payloads = redis.call('HMGET', PAYLOADS .. job.id, unpack(indexes))
  local entries = job.has_attempts and redis.call('HMGET', ATTEMPTS .. job.id, unpack(indexes)) or {}
  local queued_ms = ms(now - tonumber(job.accepted_ms))
  local left_ms = job.deadline_ms and ms(job.deadline_ms - now) or ''
  local lease_end, leases = ms(now + LEASE_MS), {}
  for i, index in ipairs(indexes) do
    if payloads[i] then
      local item = job.id .. ':' .. index
      local lease = item .. '@' .. claim
      leases[#leases + 1], leases[#leases + 2] = lease_end, lease
      local failed, first_claim, losses = '0', '', ''
      if entries[i] then failed, first_claim, losses = parse_attempts(entries[i]) end
      for _, value in ipairs({ item, lease, lane, payloads[i], failed, first_claim, count_losses(losses), queued_ms, left_ms }) do
        claimed[#claimed + 1] = value
      end
    end
  end
  if #leases > 0 then redis.call('ZADD', LEASES .. lane, unpack(leases)) end
  return #leases / 2
end

-- Leases one item of the quarantine. Returns how many.
local function lease_quarantined(lane)
  while true do
    local item = redis.call('ZPOPMIN', QUARANTINE .. lane)[1]
    if not item then return 0 end
    local job, index = unpark(item)
    if lease_items(lane, job, { index }) > 0 then return 1 end
  end
end
