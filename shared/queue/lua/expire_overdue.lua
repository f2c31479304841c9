#!lua flags=allow-oom
-- Ends jobs whose deadline has passed, and removes expired jobs from their owners' lists. The workers do the same in their
-- rounds, but there may be no worker, so the API calls this script, too.
--- @include "job_end"
end_overdue_jobs()
forget_expired(1000)
