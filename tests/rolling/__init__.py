"""Rolling restarts of a fleet under load, half of its processes of the version before.

    make rolling                                 every process twice, by SIGTERM
    make rolling ARGS="--kill"                   the same by SIGKILL
    make rolling ARGS="--rate 0.2 --rounds 1"    a fifth of the load, every process once
    make rolling ARGS="--keep --json out.json"   keep logs and database; write the figures

* `plan`       pure: which processes there are, and in what order each is restarted, from a seed
* `fleet`      the processes: PostgreSQL, 2 syncs, 2 coordinators, 3 agents; starts and replaces
* `load`       one client as a process of its own, with the SDK of either version; its requests, and
               the audit of what was acknowledged to it, are those of `tests.load`
* `judgement`  pure: what each event did to the requests, and what did not hold
* `drive`      carries a plan out under load, and looks into the store and the logs afterwards

To change it: another member belongs into ``plan.MEMBERS`` and ``plan.HOME``; another setting of a
process into ``fleet.settings_of``; another kind of event into `plan.Event` and ``drive.perform``;
another promise into ``judgement.broken``.  `test_rolling` runs a short plan in the suite.

What new processes can do is found out by looking at their settings: a maximum age of links
(``limits.link_age_s``) and a list of syncs (``sync`` of agents and coordinators) are set as soon as
this version has them, and never for the version before.
"""
