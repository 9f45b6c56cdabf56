"""Load on a fleet and the audit of its results, for rolling restarts and tests in a cluster.

* `client_requests`   a client's appends and matches at a fixed rate, with the SDK alone
* `client_reports`  no I/O: the clients' reports of requests and acknowledgements
* `audit`    whether every acknowledged tick and decision is in PostgreSQL once and unchanged

To add a kind of request, extend `client_requests.Load`. If the request acknowledges something, also
extend `client_reports.Heard` and `audit.lost`.
"""
