"""Rolling restarts of a fleet under load, with half of its processes on the previous version.

    make rolling                                 restart every process twice, by SIGTERM
    make rolling ARGS="--kill"                   the same by SIGKILL
    make rolling ARGS="--rate 0.2 --rounds 1"    a fifth of the load, every process once
    make rolling ARGS="--keep --json out.json"   keep logs and database; write the figures

* `plan`       no I/O: the processes, and the seeded order of their restarts
* `fleet`      the processes: PostgreSQL, 2 syncs, 2 coordinators, 3 agents; starts and replaces
* `load`       a client process with the SDK of either version; `tests.load` has its requests and
               the audit of what was acknowledged
* `judgement`  no I/O: how each event affected the requests, and which promises are broken
* `drive`      carries a plan out under load, and checks the store and the logs afterwards

To extend the plan: add a member to ``plan.MEMBERS`` and ``plan.HOME``, a setting of a process to
``fleet.settings_of``, a kind of event to `plan.Event` and ``drive.perform``, a promise to
``judgement.broken``. `test_rolling` runs a short plan in the test suite.

Two settings are given only to processes of this version: a maximum age of links
(``limits.link_age_s``), and for agents and coordinators a list of syncs (``sync``) instead of one
sync. A setting is left out if the settings classes of this checkout do not accept it.
"""
