#!lua flags=allow-oom
-- Finishes jobs past their deadlines and forgets expired ones: the API's part, because there may be no worker.
--- @include "job_end"
finish_overdue_jobs()
forget_expired(1000)
