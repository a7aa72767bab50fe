# Two commands do everything on a bare Debian 12 or Ubuntu 24.04: `make demo` and `make test`.
.DEFAULT_GOAL := help
.PHONY: help demo test check format clean packages-demo packages-test

VENV := .venv
BIN := $(VENV)/bin
# The distribution's Python first: the sidecar's and the applications' users can read it wherever root's home cannot be.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3.11 /usr/bin/python3) python3)
STAMP := $(VENV)/.installed

help:
	@echo "make demo    captured pods on this machine, real clients, and an account of what passed (root)"
	@echo "make test    everything the gate runs: format, lint, types, floors, tests (root)"
	@echo "make check   the quick half: format, lint, types, floors"
	@echo "make format  let ruff rewrite what it can"

demo: packages-demo $(STAMP)
	$(BIN)/tproxy demo

test: packages-test check
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

check: $(STAMP)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(STAMP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

packages-demo packages-test: packages-%:
	@.ci/packages $*

$(STAMP): pyproject.toml .ci/packages
	@.ci/packages build
	@echo "installing into $(VENV): tproxy[init] and what checks and tests it"
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install -qq --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/pip install -qq --disable-pip-version-check -e '.[init]' --group test --group check
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage .hypothesis
