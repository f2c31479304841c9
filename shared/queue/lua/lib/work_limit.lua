-- Limits the work of a script in addition to the items that it was called for: ending overdue jobs, requeuing items,
-- looking at queues that wait, correcting times. Redis does nothing else during this work. The next run does the work
-- that is left over. A unit of work is about one command, and 2,500 commands take about 5 ms.
-- Defines for other files: has_work_left, spend
local work_left = 1000

local function has_work_left() return work_left > 0 end

local function spend(commands) work_left = work_left - commands end
