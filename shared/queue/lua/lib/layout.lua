-- Scripts that may write the first key of a prefix write the layout's version with it: see shared/queue/layout_version.py.
redis.call('SET', LAYOUT_VERSION, LAYOUT, 'NX')
