"""A kit that builds and runs a real Kubernetes cluster on one machine, without Docker, for tests.

Its command line is described by `python -m tests.cluster --help`.

Pure modules, without input and output: `names` (names, addresses, paths), `preflight` (what the
machine lacks), `programs` (what is built, and from which sources), `component_configs` and
`component_commands` (configuration files and command lines of the components), `image_archives`
(image archives).  The package `images`, beside `tests`, builds the images of this project.

Modules with side effects: `machine` observes the machine, `commands_here` runs commands and waits,
`program_builds` compiles the programs.  `certificates`, `cgroups`, `network_namespaces`,
`component_processes` and `state_files` manage what their names say.  `up` starts a cluster and
`leftovers` removes it.  `nodes` starts and breaks nodes, `crashes` kills the processes of a pod.
`api_server_relay` gives access from outside the network namespace.  `cluster_guard` prevents tests
from running on a cluster that is not marked for tests. `pods` runs kubectl and makes small objects
for tests.

Modules that test an installed release of the chart: `load` sends requests from outside.
`disturbance_plan` (pure) says which pods to delete or kill, and in which order; `disturb` does so,
through `api_requests`.  `load_judgement` (pure) and `disturbance_report` show how requests fared
meanwhile.  `replay_comparison` compares the decisions with those of a local run.  `outside_trials`
combines these modules.
"""
