-- ATTEMPTS has an entry for each item that failed or lost a worker: failed attempts, '@' and the first claim, then for
-- each claim whose worker was lost a space and the claim. `has_attempts` of the job saves looking for one.

-- Returns the count of failed attempts, the first claim ('' if none), the lost claims.
local function parse_attempts(entry) return string.match(entry or '0', '^(%d+)@?(%d*)(.*)$') end

local function read_attempts(job, index)
  return parse_attempts(job.has_attempts and redis.call('HGET', ATTEMPTS .. job.id, index))
end

local function save_attempts(job, index, failed, first_claim, losses)
  if not job.has_attempts then redis.call('HSET', JOB .. job.id, 'has_attempts', 1) end
  job.has_attempts = true
  redis.call('HSET', ATTEMPTS .. job.id, index, failed .. '@' .. first_claim .. losses)
end

local function count_losses(losses) return select(2, string.gsub(losses, ' ', '')) end

-- Removes a loss: a worker that settles late was not lost. It stood still, or Redis was unavailable.
local function forgive_loss(job, index, claim)
  local entry = job.has_attempts and redis.call('HGET', ATTEMPTS .. job.id, index)
  if entry then redis.call('HSET', ATTEMPTS .. job.id, index, (string.gsub(entry, ' ' .. claim, ''))) end
end
