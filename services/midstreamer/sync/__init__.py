"""The sync service: commits ticks and decisions to PostgreSQL, exactly once, in batches.

It also settles decisions, keeps the members' leases and serves the change feed.
"""
