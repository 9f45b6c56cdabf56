"""A real Kubernetes for the tests, on one machine, without Docker.

The command line is `python -m tests.cluster --help`.

Pure modules decide: `names` (names, addresses, paths), `preflight` (what the machine lacks),
`programs` (what is built, and from what), `configuration` and `commands` (files and command lines
of the components), `archive` (image archives).
The others do it: `machine` observes, `host` runs commands and waits, `build` compiles,
`certificates`, `cgroups` and `network` make what a node stands on, `nodes` starts and breaks
nodes, `up` and `down` bring up and take down a cluster, `mark` keeps tests off foreign clusters,
`relay` is the way in from outside the network namespace.
"""
