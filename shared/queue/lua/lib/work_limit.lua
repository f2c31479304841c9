-- Limits what one script does beside the items that it was called for, because Redis does nothing else meanwhile:
-- ending overdue jobs, requeuing items, looking at queues that wait, correcting times. What is left over is done by the
-- next run.
-- A unit is about one command, and 2,500 commands take about 5 ms.
-- Defines for other files: has_work_left, spend
local work_left = 1000

local function has_work_left() return work_left > 0 end

local function spend(commands) work_left = work_left - commands end
