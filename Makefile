# Slotwire's commands. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests start hundreds of processes, and two read all test files: with bytecode they need not compile them each time.
unexport PYTHONDONTWRITEBYTECODE
# Two processes, each with a Postgres and a Kafka of its own. Whole files go to whichever is free, the longest folders first.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder

.PHONY: help install run quick test drills lint format soak bench lock generate pin release clean

help: ## list the commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## install what is missing into .venv

$(STAMP): pyproject.toml requirements/dev.lock
	@for name in ingest handlers schemas; do test -d src/slotwire/$$name || { echo "slotwire: src/slotwire/$$name is not a link to the folder $$name: this checkout has no symbolic links. Run 'git config core.symlinks true && git checkout -- src', then the command again (Windows: in WSL)." >&2; exit 1; }; done
	@command -v $(PYTHON) >/dev/null || { echo "slotwire: '$(PYTHON)' was not found. Install Python 3.11 or newer, or name one: make install PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "slotwire: Python 3.11 or newer is needed, $$($(PYTHON) --version 2>&1) was found. Name a newer one: make install PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "slotwire: this Python has no venv module. On Debian and Ubuntu: apt install python3-venv. Then run the command again." >&2; exit 1; }
	@test -x $(BIN)/python || { echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }; }
	@echo "installing the locked requirements into $(VENV)"
	@set -o pipefail; $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --require-hashes -r requirements/dev.lock | $(BIN)/python tools/install_progress.py requirements/dev.lock || { echo "slotwire: the requirements could not be installed: is the package index reachable? Set pip's index or proxy, then run the command again." >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: install ## everything on this machine: Postgres, Kafka, all processes, a simulated Calendly, a demo agent
	@exec $(BIN)/slotwire local

quick: install ## the tests to run before each commit: unit, property and contract
	@$(PYTEST) tests/unit tests/property tests/contract

test: install ## the whole suite, on real Postgres and real Kafka
	@$(PYTEST)

drills: install ## what needs system packages: names those that are missing, then tests with them
	@$(BIN)/python -m tools.drills
	@$(BIN)/python -m pytest -m drills tests

lint: install ## ruff, mypy, import contracts, SQL
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-logo
	@$(BIN)/python -m tools.migration_lint

format: install ## rewrite the sources in the one format
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

soak: install ## the long forms of the fault, property and load tests
	@$(BIN)/python -m pytest -m soak tests

bench: install ## durable acks and webhook-to-handler latency, beside a bare endpoint and the naive service
	@$(BIN)/python -m tests.bench

generate: install ## rewrite what is made from the code: references under docs/, schemas for programs
	@$(BIN)/python -m tools.generate

lock: install ## resolve the requirements again, as hashes without index addresses
	@$(BIN)/uv pip compile pyproject.toml --extra local --extra dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet -o requirements/dev.lock
	@$(BIN)/uv pip compile pyproject.toml --extra traces --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet -o requirements/runtime.lock
	@grep -om1 'hatchling==[0-9.]*' pyproject.toml | $(BIN)/uv pip compile - --constraint requirements/dev.lock --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet -o requirements/build.lock

pin: install ## put the digests of today's images into the Dockerfile, compose.yaml and k8s/ (asks the registries)
	@$(BIN)/python -m tools.release.images $(REGISTRIES)

release: install ## build the last commit's wheels into dist/, with bills of materials and checksums
	@$(BIN)/python -m tools.release $(REGISTRIES)

clean: ## remove what was built and installed here; never data
	@rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
