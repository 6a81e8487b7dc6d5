# Everything a clone needs: `make demo` and `make test` do their own set-up in .venv.
# Only Python >= 3.11 and make are expected of the machine.

PYTHON ?=
WORKERS ?= 2
SEEDS ?= 1-50
BENCH ?=
MINUTES ?= 60
CHAOS ?=
JUDGES ?=
OPERATIONS ?= 10000
SEED ?= 1
SIMULATE ?=

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types format bench simulate simulate-core planted chaos failover judges clean

help:
	@echo "make demo      three servers, a kill -9 of the leader, a lock that moves: every claim checked"
	@echo "make test      all tests (WORKERS=$(WORKERS) processes)"
	@echo "make lint      ruff: rules and format"
	@echo "make types     mypy, strict"
	@echo "make format    rewrite the sources as ruff would have them"
	@echo "make bench     load a local cluster of three processes (BENCH='--seconds 5 ...' for options)"
	@echo "make simulate  the simulator over SEEDS=$(SEEDS)"
	@echo "make simulate-core  storms over the Raft core alone, SEEDS=$(SEEDS)"
	@echo "make planted   plant known bugs in a copy and see that the simulator finds each"
	@echo "make chaos     real servers in trouble for MINUTES=$(MINUTES) (CHAOS='--servers 5 ...' for options)"
	@echo "make failover  how long nobody can write when the leader is killed, paused or cut off"
	@echo "make judges    a real ZooKeeper beside ours, zkCli, Curator, Node.js, Patroni (JUDGES='zkcli ...' for some)"
	@echo "make clean     remove .venv and everything that was generated"

setup: $(STAMP)
	@:

# The stamp is written last: an installation that was cut short is done again.
$(STAMP): pyproject.toml
	@set -e; \
	python=''; \
	for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python); do \
		if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			python="$$candidate"; break; \
		fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "JKCS needs Python 3.11 or newer; tried: $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python)." >&2; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2; \
		exit 1; \
	fi; \
	if ! "$$python" -c 'import venv, ensurepip' 2>/dev/null; then \
		echo "$$python has no venv or no ensurepip (on Debian and Ubuntu: apt install python3-venv)." >&2; \
		exit 1; \
	fi; \
	if ! $(PY) -m pip --version >/dev/null 2>&1; then \
		echo "creating $(VENV) with $$("$$python" --version)"; \
		"$$python" -m venv --clear $(VENV); \
	fi; \
	echo "installing jkcs and what its tests need into $(VENV)"; \
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]'; \
	touch $(STAMP)

demo: $(STAMP)
	@$(PY) -m jkcs_server.cli.main demo

test: $(STAMP)
	@$(PY) -m pytest -n $(WORKERS) --dist worksteal

lint: $(STAMP)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

types: $(STAMP)
	@$(PY) -m mypy

format: $(STAMP)
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

bench: $(STAMP)
	@$(PY) -m jkcs_server.cli.main bench $(BENCH)

simulate: $(STAMP)
	@$(PY) -m tests.simulation --seeds $(SEEDS) --jobs $(WORKERS) $(SIMULATE)

simulate-core: $(STAMP)
	@$(PY) -m tests.core_simulation --seeds $(SEEDS) --jobs $(WORKERS)

planted: $(STAMP)
	@$(PY) -m tests.simulation.planted

chaos: $(STAMP)
	@$(PY) -m tests.chaos --minutes $(MINUTES) $(CHAOS)

failover: $(STAMP)
	@$(PY) -m tests.chaos failover $(CHAOS)

# Both run, whatever the first one says.
judges: $(STAMP)
	@failed=0; \
	$(PY) -m tests.zookeeper.differential --operations $(OPERATIONS) --seed $(SEED) || failed=1; \
	$(PY) -m tests.zookeeper.clients $(JUDGES) || failed=1; \
	exit $$failed

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
