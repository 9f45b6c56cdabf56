"""Load on a fleet, and what became of it: shared by rolling restarts and tests in a cluster.

* `asking`   a client's appends and matches at a fixed rate, with the SDK alone
* `records`  pure: what clients told, request by request, and what was acknowledged to them
* `audit`    whether every acknowledged key is in PostgreSQL, exactly once and as acknowledged

To change it: another kind of request belongs into `asking.Load` and, where it acknowledges
something, into `records.Heard` and `audit.lost`.
"""
