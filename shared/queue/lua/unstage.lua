#!lua flags=allow-oom
-- Stops counting the bytes of an upload whose parts the caller has deleted.
-- ARGV: owner, upload (id of the job or the file), then the numbers of bytes that may be counted for the upload
--- @include "staged_bytes"
for i = 3, #ARGV do unstage(ARGV[1], ARGV[2], tonumber(ARGV[i])) end
