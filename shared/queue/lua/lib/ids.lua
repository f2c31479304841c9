-- An item is '<job>:<index>', a lease '<job>:<index>@<claim>', a claim the µs in which its script ran.
local function split_item(item) return string.match(item, '^(.+):(%d+)$') end
local function split_lease(lease) return string.match(lease, '^(.+):(%d+)@(%d+)$') end
