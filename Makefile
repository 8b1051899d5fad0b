# One word per habit. `make site` and `make test` are the two a newcomer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.lock-$(shell cat pyproject.toml locks/dev.lock | sha256sum | cut -c1-16)
export PYTHONPATH := molecule/shared

.PHONY: setup lock check fix test test-vllm fuzz site site-down box bench bench-gateway bench-affinity bench-bundle bench-preflight bench-apply bench-audit bench-identity bench-allocation clean

setup: $(STAMP)

$(STAMP): pyproject.toml locks/dev.lock
	@echo "setup: .venv from locks/dev.lock (about a minute the first time)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "setup: Python 3.11 or newer is needed; install it and set PYTHON=/path/to/python3.11"; exit 2; }
	@test -x $(BIN)/pip || tools/make-venv $(PYTHON) $(VENV)
	@tools/install-lock $(BIN) locks/dev.lock
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.lock-*; touch $@

lock:
	@tools/lock

check: setup
	@tools/check

fix: setup
	@$(BIN)/ruff format --quiet . && $(BIN)/ruff check --fix --quiet .

test: setup
	@tools/test

test-vllm: setup
	@nice -n 19 $(BIN)/python -m tests.vllm

fuzz: setup
	@$(BIN)/python -m tests.fuzz

site: setup
	@tools/site up

site-down: setup
	@tools/site down

box: setup
	@$(BIN)/redoubt box

bench: bench-gateway bench-affinity bench-bundle bench-preflight bench-apply bench-audit bench-identity bench-allocation

bench-gateway: setup
	@$(BIN)/python -m tests.bench.gateway

bench-affinity: setup
	@$(BIN)/python -m tests.bench.affinity_simulated
	@$(BIN)/python -m tests.bench.affinity

bench-bundle: setup
	@$(BIN)/python -m tests.bench.bundle

bench-preflight: setup
	@$(BIN)/python -m tests.bench.preflight

bench-apply: setup
	@$(BIN)/python -m tests.bench.apply

bench-audit: setup
	@$(BIN)/python -m tests.bench.audit

bench-identity: setup
	@$(BIN)/python -m tests.bench.identity

bench-allocation: setup
	@$(BIN)/python -m tests.bench.allocation

clean:
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
