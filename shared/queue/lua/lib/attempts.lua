-- Counts failed attempts and lost workers. ATTEMPTS has an entry for each item that failed or lost a worker:
-- '<failed attempts>@<first claimed_us>', followed by ' <claimed_us>' for each claim whose worker was lost since the
-- last failed attempt, for example '1@1700 1800'. A second number, as in '1+7@1700', counts failed attempts that do not
-- count for the item: because of a fault of the provider, or before the item moved to its route. A job without the
-- field `has_attempts` has no entries.
-- Defines for other files: parse_attempts, read_attempts, save_attempts, count_losses, forgive_loss

-- Returns the number of failed attempts, the time of the first claim ('' without an entry), the times of the lost
-- claims and the number of attempts that do not count.
local function parse_attempts(entry)
  local failed, uncounted, first_claimed_us, losses = string.match(entry or '0', '^(%d+)%+?(%d*)@?(%d*)(.*)$')
  return failed, first_claimed_us, losses, tonumber(uncounted) or 0
end

local function read_attempts(job, index)
  return parse_attempts(job.has_attempts and redis.call('HGET', ATTEMPTS .. job.id, index))
end

local function save_attempts(job, index, failed, first_claimed_us, losses, uncounted)
  if not job.has_attempts then redis.call('HSET', JOB .. job.id, 'has_attempts', 1) end
  job.has_attempts = true
  failed = uncounted > 0 and failed .. '+' .. uncounted or failed
  redis.call('HSET', ATTEMPTS .. job.id, index, failed .. '@' .. first_claimed_us .. losses)
end

local function count_losses(losses) return select(2, string.gsub(losses, ' ', '')) end

-- Removes a worker loss. A worker that settles late was not lost: it was suspended, or Redis was unavailable.
local function forgive_loss(job, index, claimed_us)
  local entry = job.has_attempts and redis.call('HGET', ATTEMPTS .. job.id, index)
  if entry then redis.call('HSET', ATTEMPTS .. job.id, index, (string.gsub(entry, ' ' .. claimed_us, ''))) end
end
