-- An item is '<job>:<index>'. A lease is '<job>:<index>@<claimed_us>': claimed_us is the time, in µs, of the claim.
-- Defines for other files: split_item, split_lease
local function split_item(item) return string.match(item, '^(.+):(%d+)$') end
local function split_lease(lease) return string.match(lease, '^(.+):(%d+)@(%d+)$') end
