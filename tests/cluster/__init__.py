"""A real Kubernetes for the tests, on one machine, without Docker.

The command line is `python -m tests.cluster --help`.

Pure modules decide: `names` (names, addresses, paths), `preflight` (what the machine lacks),
`programs` (what is built, and from what), `configuration` and `commands` (files and command lines
of the components), `archive` (image archives). `images`, beside `tests`, builds our own images.

The others do it: `machine` observes, `host` runs commands and waits, `build` compiles;
`certificates`, `cgroups`, `network`, `processes` and `state` are what a cluster stands on; `up`
brings one up, and `leftovers` takes it down; `nodes` starts and breaks nodes, `crashes` kills what
runs in pods; `relay` is the way in from outside the network namespace; `mark` keeps tests off
other people's clusters; `pods` is kubectl and small objects for tests.

On a release of the chart: `load` drives it from outside, `disturbances` (pure) and `disturbing`
break its pods one after the other by way of `apiproxy`, `events` (pure) and `report` tell what that
did, `replay` compares decisions with those of a local run; `trials` puts them together.
"""
