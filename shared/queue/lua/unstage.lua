#!lua flags=allow-oom
-- No longer counts the bytes of an upload whose parts the caller has deleted.
-- ARGV: owner, upload (id of the job or the file), then numbers of bytes, one of which is counted
--- @include "staged_bytes"
for i = 3, #ARGV do unstage(ARGV[1], ARGV[2], tonumber(ARGV[i])) end
