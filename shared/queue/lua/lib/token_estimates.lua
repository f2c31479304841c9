-- Estimates the tokens of prompts, without a tokenizer. The bytes of a payload are divided into five classes, which
-- tokenizers treat differently. The tokens per byte of each class, and a number of tokens that each request has, are
-- learned for each limiter from the tokens that the provider has counted, by recursive least squares (a Kalman filter
-- whose state changes slowly).
-- The variance of a count is taken as proportional to the count, so one number tells the accuracy of all estimates.
-- The tokens of an answer are the mean of the job's answers.
-- Classes: lower-case letters and spaces; capitals and digits; signs; scripts with three bytes a character or more,
-- such as Japanese; scripts with two, such as Russian. The last weight is for the tokens that each request has, in
-- units of ten tokens.
-- Defines for other files: new_weights, prompt_tokens_of, learn_prompt_tokens, output_of, learn_output
local FIRST_WEIGHTS = { 0.22, 0.5, 0.6, 0.33, 0.25, 0 }
local FIRST_DEVIATIONS = { 0.1, 0.3, 0.4, 0.25, 0.25, 1 }
local SIZE = #FIRST_WEIGHTS
local CHANGE = 0.0001 -- the part of the first variance by which the variance of a weight grows with each answer
local PIECES, PIECE_BYTES = 4, 256 -- parts of a long payload whose bytes are counted
-- Limit of the payloads that are read. A longer payload is estimated as the mean of the payloads before it.
local MAX_READ_BYTES = 65536
-- The error is the largest recent error of an estimate, divided by the root of the tokens.
local MIN_ERROR, MAX_ERROR, KEPT = 0.3, 10, 0.995
local CAUTION, LEAST_RATIO = 1.5, 0.01
local FIRST_OUTPUT, FIRST_OUTPUT_DEVIATION = 256, 64 -- tokens of an answer
local WEIGHT = 0.2 -- of the newest answer in the means
local payload_shares = {}

local function new_weights()
  local variances = {}
  for i = 1, SIZE do
    variances[i] = { 0, 0, 0, 0, 0, 0 }
    variances[i][i] = FIRST_DEVIATIONS[i] ^ 2
  end
  return { weights = { unpack(FIRST_WEIGHTS) }, variances = variances, error = 1, typical = { 0.8, 0.06, 0.14, 0, 0 } }
end

local function sample_of(text)
  if #text <= PIECES * PIECE_BYTES then return text end
  local pieces, step = {}, math.floor((#text - PIECE_BYTES) / (PIECES - 1))
  for i = 0, PIECES - 1 do pieces[i + 1] = string.sub(text, i * step + 1, i * step + PIECE_BYTES) end
  return table.concat(pieces)
end

-- Returns the share of each class in a text.
local function shares_of(text)
  local sample, wide, narrow = sample_of(text), 0, 0
  local length = #sample
  if string.find(sample, '\\u', 1, true) then -- escapes count as the bytes of their characters in UTF-8
    sample, narrow = string.gsub(sample, '\\+u0[0-7]%x%x', '')
    sample, wide = string.gsub(sample, '\\+u%x%x%x%x', '')
  end
  local upper = string.gsub(sample, '[%l ]+', '')
  local signs = string.gsub(upper, '[%u%d]+', '')
  local ascii = string.gsub(signs, '[\128-\255]+', '')
  local _, two_byte = string.gsub(signs, '[\192-\223]', '')
  wide, narrow = 3 * wide + #signs - #ascii - 2 * two_byte, 2 * (narrow + two_byte)
  return { (#sample - #upper) / length, (#upper - #signs) / length, #ascii / length, wide / length, narrow / length }
end

-- Returns the number of bytes of an item's payload (0 if it has been deleted), the shares of the classes with the value
-- for the last weight, and a true value if the payload was read. If not, the shares are those of earlier payloads.
local function payload_of(known, job, index)
  local item = job.id .. ':' .. index
  local found = payload_shares[item]
  if not found then
    local bytes = redis.call('HSTRLEN', PAYLOADS .. job.id, index)
    found = { bytes = bytes }
    if bytes > 0 and bytes <= MAX_READ_BYTES then
      found.shares = shares_of(redis.call('HGET', PAYLOADS .. job.id, index))
    end
    payload_shares[item] = found
  end
  local shares = found.shares or known.typical
  local all = { unpack(shares) }
  all[SIZE] = 10 / math.max(1, found.bytes)
  return found.bytes, all, found.shares
end

local function product(one, other)
  local sum = 0
  for i = 1, SIZE do sum = sum + one[i] * other[i] end
  return sum
end

-- Returns the product of the variances and the shares, and the part of the variance of tokens per byte that comes from
-- the uncertainty of the weights.
local function uncertainty(known, shares)
  local gains = {}
  for i = 1, SIZE do gains[i] = product(known.variances[i], shares) end
  return gains, math.max(0, product(gains, shares))
end

-- Returns an estimate of an item's prompt tokens, and the square of the error to expect. `known`: see `new_weights`.
local function prompt_tokens_of(known, job, index)
  local bytes, shares = payload_of(known, job, index)
  local ratio, _, variance = math.max(LEAST_RATIO, product(known.weights, shares)), uncertainty(known, shares)
  return bytes * ratio, 9 * variance * bytes ^ 2 + (CAUTION * known.error) ^ 2 * ratio * bytes
end

-- Learns from the tokens that a provider has counted for an item. Returns whether `known` has changed.
local function learn_prompt_tokens(known, job, index, tokens)
  local bytes, shares, are_read = payload_of(known, job, index)
  if bytes == 0 or not are_read then return false end
  local guess, gains, variance = product(known.weights, shares), uncertainty(known, shares)
  local ratio, difference = math.max(LEAST_RATIO, guess), tokens / bytes - guess
  local noise = (known.error / 3) ^ 2 * ratio / bytes
  if variance < noise then
    local latest = math.min(MAX_ERROR, math.abs(difference) * math.sqrt(bytes / ratio))
    known.error = math.max(MIN_ERROR, known.error * KEPT, latest)
  end
  for i = 1, SIZE do
    known.weights[i] = known.weights[i] + gains[i] / (variance + noise) * difference
    for j = 1, SIZE do known.variances[i][j] = known.variances[i][j] - gains[i] * gains[j] / (variance + noise) end
    local first = FIRST_DEVIATIONS[i] ^ 2
    known.variances[i][i] = math.min(first, known.variances[i][i] + CHANGE * first)
  end
  for i = 1, SIZE - 1 do known.typical[i] = known.typical[i] + 0.1 * (shares[i] - known.typical[i]) end
  return true
end

-- Returns the mean and the mean deviation of the tokens of the job's answers.
local function output_of(job)
  if not job.output then
    local text = redis.call('HGET', JOB .. job.id, 'tokens')
    job.output = text and cjson.decode(text)
      or { mean = FIRST_OUTPUT, deviation = FIRST_OUTPUT_DEVIATION, is_first = true }
  end
  return job.output
end

-- Learns from an answer how many tokens the job's answers have.
local function learn_output(job, tokens)
  local known = output_of(job)
  if known.is_first then
    job.output = { mean = tokens, deviation = tokens / 4 }
  else
    local function mean(old, new) return old + WEIGHT * (new - old) end
    job.output = { mean = mean(known.mean, tokens), deviation = mean(known.deviation, math.abs(tokens - known.mean)) }
  end
  redis.call('HSET', JOB .. job.id, 'tokens', cjson.encode(job.output))
end
