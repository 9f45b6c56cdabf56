"""Load on a fleet and the audit of its results, for rolling restarts and tests in a cluster.

* `asking`   a client's appends and matches at a fixed rate, with the SDK alone
* `records`  no I/O: the clients' reports of requests and acknowledgements
* `audit`    whether every acknowledged key is in PostgreSQL once, with the acknowledged value

To add a kind of request, extend `asking.Load`. If the request acknowledges something, also extend
`records.Heard` and `audit.lost`.
"""
