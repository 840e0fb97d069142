# Every target sets up what it needs by itself; a fresh clone needs Python 3.11 or newer, make and a C library.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PIN := --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --allow-unsafe \
	--strip-extras --no-header
# Where Python is told to keep no bytecode, every start of the service would compile it again.
COMPILE := $(BIN)/python -m compileall -q src
# One more than there are processors: tests wait for servers half of their time.
JOBS ?= $(shell expr $$(nproc 2>/dev/null || echo 2) + 1)

.PHONY: demo serve test test-unit test-s3 test-store-faults test-store test-crash test-equivalence test-gc test-hydration test-power-cuts lint types check bench requirements clean

demo: $(VENV)/.runtime ## The whole story on real data, in about a minute
	$(BIN)/stillframe demo

serve: $(VENV)/.runtime ## The service in the foreground
	$(BIN)/stillframe serve

test: $(VENV)/.dev ## All tests but the long recorded runs
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not crash"
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m crash

test-unit: $(VENV)/.dev ## Only what needs no processes
	$(BIN)/python -m pytest -n $(JOBS) tests/unit tests/contract

test-s3: $(VENV)/.dev ## The tests of repositories once more, on a real S3 server
	STILLFRAME_TEST_STORE=s3 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal \
		tests/unit/repository tests/integration/repository \
		tests/integration/backup/test_round_trip.py tests/integration/backup/test_incremental.py

test-store-faults: $(VENV)/.dev ## Every wrong answer of an S3 server at every request of a capture and a restore
	STILLFRAME_S3_FAULT_POINTS=all $(BIN)/python -m pytest -n $(JOBS) --timeout 3600 \
		tests/integration/objectstore/test_store_faults.py

test-store: $(VENV)/.dev ## Kills, losses of power, wrong answers and bit rot, as many as are recorded
	STILLFRAME_STORE_KILLS=6000 STILLFRAME_STORE_STATES=20000 STILLFRAME_STORE_FAULTS=4000 STILLFRAME_BIT_ROT=all \
		$(BIN)/python -m pytest -n $(JOBS) --timeout 14400 -rP tests/crash/repository \
		tests/integration/repository/test_bit_rot.py tests/unit/repository/test_sweep_and_check.py

test-crash: $(VENV)/.dev ## The whole crash matrix
	STILLFRAME_CRASH_POINTS=all $(BIN)/python -m pytest -n $(JOBS) --timeout 3600 \
		tests/crash tests/integration/service/test_first_start.py

test-equivalence: $(VENV)/.dev ## Incremental snapshots against full copies, through a long random schedule
	STILLFRAME_EQUIVALENCE_OPERATIONS=10000 $(BIN)/python -m pytest --timeout 14400 \
		tests/integration/backup/test_equivalence.py

test-gc: $(VENV)/.dev ## A million steps of writers, readers, pins, deletions and sweeps, against a model
	STILLFRAME_GC_STEPS=1000000 $(BIN)/python -m pytest --timeout 14400 -k "lost and nothing" tests/stateful/repository

test-hydration: $(VENV)/.dev ## A long random history of a directory whose files arrive, against a model
	STILLFRAME_HYDRATION_STEPS=2000 $(BIN)/python -m pytest --timeout 14400 tests/stateful/hydration

test-power-cuts: $(VENV)/.dev ## The power goes while files arrive, on ext4, XFS and btrfs in loop devices (root)
	STILLFRAME_POWER_CUTS=60 $(BIN)/python -m pytest --timeout 7200 tests/integration/hydration/test_power_cuts.py

lint: $(VENV)/.dev ## Style, layers
	$(BIN)/ruff check src tests bench
	$(BIN)/ruff format --check src tests bench
	$(BIN)/lint-imports

types: $(VENV)/.dev ## Static types
	$(BIN)/mypy

check: lint types test ## Everything CI runs

bench: $(VENV)/.bench ## Ours against the peers, in one run
	$(BIN)/python -m bench

requirements: $(VENV)/.dev ## Pin anew (needs a package index)
	cd requirements && ../$(BIN)/pip-compile $(PIN) --upgrade --output-file dev.txt dev.in
	cd requirements && ../$(BIN)/pip-compile $(PIN) --constraint dev.txt --output-file runtime.txt runtime.in
	cd requirements && ../$(BIN)/pip-compile $(subst --allow-unsafe,--unsafe-package psycopg2,$(PIN)) \
		--constraint dev.txt --output-file bench.txt bench.in

clean: ## Remove everything that was set up
	rm -rf $(VENV) node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements/runtime.txt pyproject.toml | $(BIN)/python
	@test -e $(VENV)/.dev || $(PIP) install --no-deps --require-hashes -r requirements/runtime.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@$(COMPILE)
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	@$(PIP) install --no-deps --require-hashes -r requirements/dev.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@$(COMPILE)
	@touch $@ $(VENV)/.runtime

$(VENV)/.bench: requirements/bench.txt $(VENV)/.dev
	@$(PIP) install --no-deps --require-hashes -r requirements/bench.txt
	@touch $@
