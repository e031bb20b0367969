# Needs Python 3.11+ with venv, and make. Everything else comes from requirements.lock, and for developers from requirements-dev.lock.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# uv is bootstrapped inside the venv, so that no system package is needed.
UV_VERSION := 0.13.9

.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: install
install: $(VENV)/.installed ## make .venv from requirements.lock: what users need (quick when nothing changed)

.PHONY: install-dev
install-dev: $(VENV)/.installed-dev ## the same with what tests and lint need, from requirements-dev.lock

$(VENV)/.installed: requirements.lock pyproject.toml
	$(call install_from,requirements.lock)
	@touch "$@"

$(VENV)/.installed-dev: requirements-dev.lock pyproject.toml
	$(call install_from,requirements-dev.lock)
	@touch "$(VENV)/.installed" "$@"

# A venv that was cut off while it was made (Ctrl-C) has neither uv nor pip that run: it is made anew.
UV_RUNS = $(BIN)/uv --version >/dev/null 2>&1

define install_from
@$(UV_RUNS) || $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
  { echo "kyb-stream needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is another: make install PYTHON=python3.12"; exit 1; }
@$(UV_RUNS) || echo "installing into $(VENV): some 1 GB from the package index, a minute or two"
@$(UV_RUNS) || $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
@$(UV_RUNS) || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION) || { $(NOT_FETCHED); }
@VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/uv pip install --quiet --require-hashes -r $(1) || { $(NOT_FETCHED); }
@VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .
endef

NOT_FETCHED = echo "not installed: is the package index within reach? The same command goes on where it stopped"; exit 1

# What both locks hold has one version.
.PHONY: lock
lock: ## renew requirements.lock and requirements-dev.lock from pyproject.toml (LOCK_FLAGS= without upgrades)
	@test -x $(BIN)/uv || { $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION); }
	$(LOCK) --extra embedded --extra otel --extra build --output-file requirements.lock pyproject.toml
	$(LOCK) --all-extras --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml

LOCK_FLAGS ?= --upgrade
LOCK = $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes $(LOCK_FLAGS) \
  --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' --quiet

# Most tests wait more than they compute. Those that start servers and put load on them run two at a time, a file after the other, so
# that the tests of a file share their servers; the others three at a time. Both parts run, also when the first one fails.
QUICK := not kafka and not stack
TEST_PROCESSES ?= 3
SERVER_TEST_PROCESSES ?= 2

.PHONY: test
test: install-dev ## the whole test suite
	@failed=0; \
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) -m "$(QUICK)" || failed=1; \
	$(BIN)/python -m pytest -n $(SERVER_TEST_PROCESSES) --dist loadfile -m "not ($(QUICK))" || failed=1; \
	exit $$failed

.PHONY: demo
demo: install ## the whole stack on simulated providers, reconciled, with a report
	$(BIN)/kyb-stream demo

.PHONY: lint
lint: install-dev ## style, types and the one-way rule
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

.PHONY: format
format: install-dev ## let ruff put style right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Everything but what needs several processes, a real Kafka, or (a sample aside) ClickHouse, on the other Pythons that
# pyproject.toml declares. One that this machine does not have is skipped; with CI set it is an error, because what is declared
# must be tested.
OTHER_PYTHONS := 3.12 3.13

.PHONY: test-pythons
test-pythons: ## the quick tests on the other supported Pythons, one after the other
	@$(MAKE) --no-print-directory -k $(addprefix test-python-,$(OTHER_PYTHONS))

.PHONY: $(addprefix test-python-,$(OTHER_PYTHONS))
$(addprefix test-python-,$(OTHER_PYTHONS)): test-python-%:
	@python=; \
	for candidate in $$(command -v python$*) $${PYENV_ROOT:-$$HOME/.pyenv}/versions/$*.*/bin/python$*; do \
	  if $$candidate -c 'import venv' >/dev/null 2>&1; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Python $* is not on this machine"; \
	  if [ -n "$$CI" ]; then exit 1; else exit 0; fi; \
	fi; \
	echo "== $$($$python --version)"; \
	$(MAKE) --no-print-directory install-dev PYTHON=$$python VENV=.venv-$* && \
	.venv-$*/bin/python -m pytest -n $(TEST_PROCESSES) -m "$(QUICK) and (every_python or not clickhouse)"

.PHONY: bench-core
bench-core: install-dev ## CPU cost of intake and cases, beside a limit of the same run
	$(BIN)/python -m bench.pure_core

.PHONY: bench-ingress
bench-ingress: install-dev ## requests/s and percentiles of the ingress, beside bare aiohttp; needs wrk (apt-get install wrk), Java and Maven
	$(BIN)/python -m bench.door

.PHONY: bench-views
bench-views: install-dev ## seconds of each view on 10 M events and 2 M cases (CASES=2000000), p50 and p95 of ten runs; some 10 minutes to fill
	$(BIN)/python -m bench.views --cases $(or $(CASES),2000000)

.PHONY: bench-reconcile
bench-reconcile: install-dev ## seconds and memory of reconcile (DELIVERIES=10000000), beside plain aiokafka; needs Java and Maven
	$(BIN)/python -m bench.reconcile --deliveries $(or $(DELIVERIES),10000000)

.PHONY: bench-state
bench-state: install-dev ## bytes a case, and recovery with and without the local store, on a real Kafka (Java, Maven); 1 M keys: KEYS=1000000
	$(BIN)/python -m bench.state --keys $(or $(KEYS),20000)

.PHONY: bench-streams
bench-streams: install-dev ## records/s and CPU of the streams, beside plain aiokafka and quixstreams; needs Java and Maven
	$(BIN)/python -m bench.streams

.PHONY: bench-sink
bench-sink: install-dev ## rows/s into ClickHouse, beside plain consumption and an insert row by row; needs Java and Maven
	$(BIN)/python -m bench.sink

.PHONY: bench-latency
bench-latency: install-dev ## webhook to queryable, p50 and p99 at 100, 500 and 1,000 a second, everything on this machine; needs Java and Maven
	$(BIN)/python -m bench.latency

.PHONY: chaos
chaos: install-dev ## three brokers, two of each component, a constant load, faults from SEED (FAULTS=40, RATE=40): writes docs/reliability.md
	$(BIN)/python -m tests.chaos.campaign $(if $(SEED),--seed $(SEED)) --faults $(or $(FAULTS),40) --rate $(or $(RATE),40)
