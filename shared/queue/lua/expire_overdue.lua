#!lua flags=allow-oom
-- What time brings, should no worker be there to see to it: jobs past their deadlines end, those that are gone
-- leave the lists.
local now = clock()
end_overdue_jobs(now)
forget_expired(now, 1000)
