# Everything runs from .venv, which the first target that needs it creates with Python and pip alone.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
PACKAGES := contract models streams trainer index_sync nextwatch tests benchmarks

.DEFAULT_GOAL := help
.PHONY: help install demo test test-e2e test-models check fmt lint types floors docs bench bench-peers bench-retrieval-peers clean

help: ## show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(INSTALLED): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nextwatch needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[train,embedded,replay,evaluate,dev]'
	@touch $@

install: $(INSTALLED) ## set up .venv with everything

demo: $(INSTALLED) ## run the whole system on this machine and watch recommendations follow the events
	$(BIN)/nextwatch demo

test: $(INSTALLED) ## run all tests, end-to-end ones on the embedded stack included
	$(BIN)/pytest

test-e2e: $(INSTALLED) ## run only the tests on a whole stack
	$(BIN)/pytest -m stack

test-models: $(INSTALLED) ## every model of the trainer on a whole stack, one after another
	NEXTWATCH_TEST_MODELS=1 $(BIN)/pytest tests/e2e/test_models.py

check: lint types floors test ## what CI runs: lint, types, import floors, tests

lint: $(INSTALLED) ## ruff, and the format
	$(BIN)/ruff check $(PACKAGES)
	$(BIN)/ruff format --check $(PACKAGES)

types: $(INSTALLED) ## mypy, strict
	$(BIN)/mypy

floors: $(INSTALLED) ## imports go down only
	$(BIN)/lint-imports

fmt: $(INSTALLED) ## format, and mend what ruff can mend
	$(BIN)/ruff check --fix $(PACKAGES)
	$(BIN)/ruff format $(PACKAGES)

docs: $(INSTALLED) ## write docs/asyncapi.yaml and docs/settings.md anew
	$(BIN)/python -m contract.asyncapi > docs/asyncapi.yaml
	$(BIN)/python -m nextwatch.settings_reference > docs/settings.md

bench: $(INSTALLED) ## run the demo for a minute and print its figures as JSON
	$(BIN)/nextwatch demo --headless --seconds 60 --json

bench-peers: $(INSTALLED) ## the same job on Quix Streams and plain Faust, beside ours: docs/results/serving.md
	$(BIN)/python -m benchmarks.peers --report

bench-retrieval-peers: $(INSTALLED) ## models of other libraries on DATA=ml1m:DIR, beside ours: docs/results/retrieval_peers.md
	$(BIN)/python -m benchmarks.peers.retrieval --data $(DATA) --report

clean: ## remove .venv and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
