-- Writes the layout version unless it is stored: see shared/queue/layout_version.py. Every script that may write the
-- first key of a prefix includes this file. Defines nothing for other files.
redis.call('SET', LAYOUT_VERSION, LAYOUT, 'NX')
