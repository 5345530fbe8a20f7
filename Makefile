# Everything runs from .venv, which the first target that needs it creates with Python and pip alone.
#
#   make demo PYTHON=/path/to/python3.12     another interpreter, from 3.11 to 3.13
#   make demo TORCH=torch-2.13.0-….whl       the torch to take: a wheel, a requirement, or arguments of pip
#   make demo ARGS="--rate 100"              options of nextwatch demo
#   make test TORCH=none                     without torch: the tests that need it are skipped
PYTHON ?= python3
TORCH_BEFORE := $(shell cat .venv/.torch 2>/dev/null)
TORCH ?= $(filter none,$(TORCH_BEFORE))
export TORCH
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
DEMO := .venv/.demo
ALL := .venv/.all
CONSTRAINTS := .venv/constraints.txt
LOCK := --quiet --universal --python-version 3.11 --constraints constraints.txt --generate-hashes \
  --no-emit-index-url --no-annotate --custom-compile-command "make lock"
HELM := helm.sh/helm/v4/cmd/helm@v4.3.1
TRAIN := $(if $(filter none,$(TORCH)),,train,)
PACKAGES := contract models streams trainer index_sync nextwatch tests benchmarks examples ops

.DEFAULT_GOAL := help
.PHONY: help force install demo test test-slow test-containers test-e2e test-models test-clients test-browser newcomer newcomer-check check fmt lint types floors docs site lock dist audit helm \
  bench bench-console bench-peers bench-retrieval-peers clean

help: ## show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-22s %s\n", $$1, $$2}'

force:

# Looked at before anything is written: a .venv that will not do is made anew, by an interpreter that will.
SUPPORTED := import sys; from importlib.util import find_spec as found; ok = (3, 11) <= sys.version_info[:2] <= (3, 13)
USABLE = $(BIN)/python -c '$(SUPPORTED); sys.exit(not (ok and found("pip")))' 2>/dev/null
define CREATE
$(USABLE) || { \
  $(PYTHON) -c '$(SUPPORTED); sys.exit(not ok)' 2>/dev/null || { \
    echo "nextwatch needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is $$($(PYTHON) --version 2>&1)" >&2; \
    echo "name another: make $(or $(MAKECMDGOALS),install) PYTHON=/path/to/python3.11" >&2; exit 1; }; \
  $(PYTHON) -m venv --clear .venv \
    $$($(PYTHON) -c '$(SUPPORTED); print("--system-site-packages" if found("torch") else "")') \
  || { rm -rf .venv; exit 1; }; }
endef
# The torch that is there is pinned before anything else is resolved, so that pip leaves it alone.
define PIN_TORCH
grep -v '^torch==' constraints.txt > $(CONSTRAINTS); \
$(BIN)/python -c 'from importlib.metadata import version; print("torch==" + version("torch"))' \
  >> $(CONSTRAINTS) 2>/dev/null || grep '^torch==' constraints.txt >> $(CONSTRAINTS)
endef
IS_STALE := $(shell $(USABLE) || echo yes)$(filter-out $(TORCH_BEFORE),$(TORCH))

$(DEMO): pyproject.toml constraints.txt $(if $(IS_STALE),force)
	@$(CREATE)
	$(if $(filter-out none,$(TORCH)),$(PIP) install $$TORCH)
	@$(PIN_TORCH)
	$(PIP) install -c $(CONSTRAINTS) -e '.[$(TRAIN)embedded]'
	@echo "$$TORCH" > .venv/.torch && touch $@

$(ALL): $(DEMO)
	$(PIP) install -c $(CONSTRAINTS) -e '.[$(TRAIN)embedded,replay,evaluate,trace,dev,docs]'
	@touch $@

install: $(ALL) ## set up .venv with everything

demo: $(DEMO) ## run the whole system on this machine and watch recommendations follow the events
	$(BIN)/nextwatch demo $(ARGS)

TWO_AT_A_TIME := --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: $(ALL) ## run all tests but the slow ones, end-to-end ones on the embedded stack included
	$(BIN)/pytest $(TWO_AT_A_TIME) -m "not long"

test-slow: $(ALL) ## the tests that need tens of seconds, three brokers, security or minutes
	$(BIN)/pytest $(TWO_AT_A_TIME) -m long
	$(BIN)/pytest tests/slow

test-containers: $(ALL) ## the tests on a whole stack in containers, and docker-compose.yml as its users have it
	$(BIN)/python -m tests.containers

test-e2e: $(ALL) ## run only the tests on a whole stack
	$(BIN)/pytest -m stack

test-models: $(ALL) ## every model of the trainer on a whole stack, one after another
	NEXTWATCH_TEST_MODELS=1 $(BIN)/pytest tests/e2e/test_models.py

test-clients: $(ALL) ## confluent-kafka, aiokafka, kafkajs and kcat against a stack; the last line is JSON
	$(BIN)/python -m benchmarks.clients

test-browser: $(ALL) ## the console in a real Chromium (Debian: apt-get install chromium): all pages, bad input, axe
	$(BIN)/pytest tests/browser

newcomer: $(ALL) ## twelve tasks of a newcomer in Chromium, with the seconds of each; the last line is JSON
	$(BIN)/python -m benchmarks.console.newcomer

newcomer-check: ## install from a clone in an empty home, and run README's examples; the last line is JSON
	$(PYTHON) -m benchmarks.newcomer

site: $(ALL) ## write the docs site into site/: open site/index.html, it needs no server and no internet
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --clean

lock: $(ALL) ## write requirements.lock and container/build.lock anew: the pins of constraints.txt with their hashes
	$(BIN)/uv pip compile $(LOCK) --extra gateway --output-file requirements.lock pyproject.toml
	echo hatchling | $(BIN)/uv pip compile $(LOCK) --output-file container/build.lock -

helm: $(ALL) ## build helm into .venv/bin where there is Go, for the tests of the chart
	GOBIN=$(abspath $(BIN)) go install $(HELM)

audit: $(ALL) ## ask for known vulnerabilities of what requirements.lock pins
	$(BIN)/python ops/release/audit.py

dist: $(ALL) ## build sdist, wheel, bill of materials and release notes into dist/, the same bytes each time
	rm -rf dist build
	$(BIN)/python ops/release/distribution.py dist
	$(BIN)/python -m venv --clear build/venv
	build/venv/bin/python -m pip install --disable-pip-version-check --quiet --require-hashes -r requirements.lock
	build/venv/bin/python -m pip install --disable-pip-version-check --quiet --no-deps dist/*.whl
	cd build && venv/bin/nextwatch --version
	rm -rf build

check: lint types floors test ## what CI runs: lint, types, import floors, tests

lint: $(ALL) ## ruff, and the format
	$(BIN)/ruff check $(PACKAGES)
	$(BIN)/ruff format --check $(PACKAGES)

types: $(ALL) ## mypy, strict
	$(BIN)/mypy

floors: $(ALL) ## imports go down only
	$(BIN)/lint-imports

fmt: $(ALL) ## format, and mend what ruff can mend
	$(BIN)/ruff check --fix $(PACKAGES)
	$(BIN)/ruff format $(PACKAGES)

docs: $(ALL) ## write the generated pages anew: AsyncAPI, settings, metrics, events
	$(BIN)/python -m contract.wire.asyncapi > docs/asyncapi.yaml
	$(BIN)/python -m nextwatch.settings_reference > docs/settings.md
	$(BIN)/python -m nextwatch.metrics_reference > docs/metrics.md
	$(BIN)/python -m nextwatch.event_reference > docs/events.md

bench: $(ALL) ## run the demo for a minute and print its figures as JSON
	$(BIN)/nextwatch demo --headless --seconds 60 --json

bench-console: $(ALL) ## from a click in Chromium to the feed, at 50 events/s; the last line is JSON
	$(BIN)/python -m benchmarks.console --json

bench-peers: $(ALL) ## the same job on Quix Streams and plain Faust, beside ours: docs/results/serving.md
	$(BIN)/python -m benchmarks.peers --report

bench-retrieval-peers: $(ALL) ## models of other libraries on DATA=ml1m:DIR, beside ours: docs/results/retrieval_peers.md
	$(BIN)/python -m benchmarks.peers.retrieval --data $(DATA) --report

clean: ## remove .venv and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
