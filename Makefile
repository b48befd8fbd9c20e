# Everything a contributor or CI runs. `make` alone prints the targets.
#
# What always holds: nothing here needs root; only `fix` and `lock` write to the sources; and the environment that
# reaches RocksDB's compile (LIBCLANG_PATH, BINDGEN_EXTRA_CLANG_ARGS, CARGO_TARGET_DIR, the one release profile) is
# the same in every target, because a change in it costs ten minutes. The cache therefore lies outside the checkout.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3.11
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/taskquorum
BUILD_ENV := $(CACHE)/build-env
BIN := .venv/bin

export CARGO_TARGET_DIR := $(CACHE)/target
export LIBCLANG_PATH := $(BUILD_ENV)/lib/python3.11/site-packages/clang/native
export BINDGEN_EXTRA_CLANG_ARGS := -isystem $(shell gcc -print-file-name=include 2>/dev/null)
# The interpreter itself, not a shim or a venv's link, so that cargo and maturin agree on one.
export PYO3_PYTHON := $(shell $(PYTHON) -c 'import os, sys; print(os.path.realpath(sys._base_executable or sys.executable))' 2>/dev/null)

NEXTEST_PROFILE := $(if $(CI),ci,default)

##: help	this list
.PHONY: help
help:
	@sed -n 's/^##: //p' Makefile | awk -F'\t' '{ printf "make %-12s %s\n", $$1, $$2 }'

# ---- building ----------------------------------------------------------------------------------------------------

.PHONY: tools
tools:
	@command -v $(PYTHON) >/dev/null || { echo "make: CPython 3.11 is needed as '$(PYTHON)' (set PYTHON=/path/to/python3.11)"; exit 1; }
	@for tool in cargo gcc g++; do command -v $$tool >/dev/null || { echo "make: '$$tool' is needed (Rust by rustup.rs; g++ from build-essential)"; exit 1; }; done

$(BUILD_ENV)/.installed: requirements/build.txt | tools
	@echo "make: preparing the build environment in $(BUILD_ENV) (libclang, maturin, cython)"
	@test -x $(BUILD_ENV)/bin/python || $(PYO3_PYTHON) -m venv $(BUILD_ENV)
	@$(BUILD_ENV)/bin/python -m pip install --quiet -r requirements/build.txt
	@touch $@

.venv/.installed: requirements/runtime.txt requirements/dev.txt | tools
	@echo "make: installing the locked Python packages into .venv"
	@test -x $(BIN)/python || $(PYO3_PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet -r requirements/dev.txt
	@touch $@

.PHONY: native
native: $(BUILD_ENV)/.installed
	@if ! compgen -G "$(CARGO_TARGET_DIR)/release/deps/liblibrocksdb_sys-*.rlib" >/dev/null; then \
		echo "make: this is the first build here: RocksDB is compiled from source, about 12 minutes on two cores, once."; \
		echo "make: the result is kept in $(CARGO_TARGET_DIR) for every later build, test and checkout."; fi
	@rm -rf dist
	@PATH="$(BUILD_ENV)/bin:$$PATH" $(BUILD_ENV)/bin/maturin build --release --locked --interpreter $(PYO3_PYTHON) --out dist

##: build	the wheel, installed in .venv with its locked dependencies: leaves .venv/bin/taskquorum
.PHONY: build
build: native .venv/.installed
	@$(BIN)/python -m pip install --quiet --no-deps --force-reinstall dist/taskquorum-*.whl
	@{ git describe --always --abbrev=9 --dirty=+ 2>/dev/null || echo unknown; } > .venv/.built-from
	@$(BIN)/taskquorum --help >/dev/null
	@$(BIN)/python -m taskquorum.scheduling.runner
	@echo "make: $(BIN)/taskquorum is ready"

##: wheel	dist/taskquorum-*.whl alone
.PHONY: wheel
wheel: native
	@ls -l dist/*.whl

##: run	build, then the demo: three nodes, six agents, a leader and an agent killed on the way
.PHONY: run
run: build
	$(BIN)/taskquorum demo

# Test tools have target directories of their own: a product build must never see their features.
# The one with failpoints begins as a copy, taken under cargo's lock, so that RocksDB is not compiled again.
FAILPOINTS_TARGET := $(CACHE)/target-failpoints

##: build-failpoints	the same wheel with failpoints (docs/failpoints.md), in build/failpoints: PYTHONPATH=build/failpoints
.PHONY: build-failpoints
build-failpoints: build
	@test -d $(FAILPOINTS_TARGET) || { echo "make: copying the build cache to $(FAILPOINTS_TARGET)"; \
		flock $(CARGO_TARGET_DIR)/release/.cargo-lock cp -a $(CARGO_TARGET_DIR) $(FAILPOINTS_TARGET).new; mv $(FAILPOINTS_TARGET).new $(FAILPOINTS_TARGET); }
	@rm -rf build/failpoints build/failpoints-wheel
	@PATH="$(BUILD_ENV)/bin:$$PATH" CARGO_TARGET_DIR=$(FAILPOINTS_TARGET) $(BUILD_ENV)/bin/maturin build --release --locked \
		--features extension-module,failpoints --interpreter $(PYO3_PYTHON) --out build/failpoints-wheel
	@$(BIN)/python -m pip install --quiet --no-deps --target build/failpoints build/failpoints-wheel/taskquorum-*.whl
	@PYTHONPATH=build/failpoints $(BIN)/python -m taskquorum.scheduling.runner

##: lossyfs	the file system that forgets what was not synced, for the suites power and disk
.PHONY: lossyfs
lossyfs: tools
	@CARGO_TARGET_DIR=$(CACHE)/target-lossyfs cargo build --release --locked --quiet --manifest-path rust/lossyfs/Cargo.toml

# ---- checking ----------------------------------------------------------------------------------------------------

##: test	everything a change must pass: the Rust tests and the Python ones, real processes and SIGKILL included
.PHONY: test
test: test-rust test-python

##: test-rust	the Rust half of `test`
.PHONY: test-rust
test-rust: $(BUILD_ENV)/.installed
	@if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run --release --workspace --locked --profile $(NEXTEST_PROFILE); \
	else \
		echo "make: cargo-nextest is not installed, cargo test runs the same tests, only slower"; \
		cargo test --release --workspace --locked --lib --bins --tests; fi
	CARGO_TARGET_DIR=$(CACHE)/target-lossyfs cargo test --release --locked --quiet --manifest-path rust/lossyfs/Cargo.toml

##: test-python	the Python half of `test`
.PHONY: test-python
test-python: build-failpoints
	$(BIN)/python -m pytest -m "not long"

##: test-long	the tests with many rounds, such as 50 random kills under load
.PHONY: test-long
test-long: build
	$(BIN)/python -m pytest -m long -s

##: verify	the read-only gates (rustfmt, clippy, ruff, mypy, stubtest), then `test`
.PHONY: verify
verify: gates test

##: gates	the read-only gates alone
.PHONY: gates
gates: build
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets --locked -- -D warnings
	cargo fmt --check --manifest-path rust/lossyfs/Cargo.toml
	CARGO_TARGET_DIR=$(CACHE)/target-lossyfs cargo clippy --release --all-targets --locked --manifest-path rust/lossyfs/Cargo.toml -- -D warnings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	MYPYPATH=pysrc $(BIN)/stubtest taskquorum._native taskquorum._http

##: fix	formats and repairs what the gates can repair: with `lock` the only target that writes to the sources
.PHONY: fix
fix: .venv/.installed
	cargo fmt --all
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# ---- measuring ---------------------------------------------------------------------------------------------------

##: bench	micro benchmarks, then the harness on three real nodes: bench/out/bench.json and bench.html (about 5 minutes)
.PHONY: bench
bench: build
	@mkdir -p bench/out
	cargo run --release --locked --quiet -p codec --example frame_rate | tee bench/out/codec.txt
	cargo run --release --locked --quiet -p machine --example apply_rate | tee bench/out/machine.txt
	$(BIN)/python -m pytest bench/micro -q -p no:cacheprovider --override-ini testpaths=bench/micro --benchmark-json=bench/out/micro.json
	$(BIN)/python -m bench.harness

##: bench-observers	5 voters and 96 observers at 200 submits/s: lag of every member, the leader's CPU (about 4 minutes)
.PHONY: bench-observers
bench-observers: build
	cargo build --release --locked --quiet -p native -p observer
	$(BIN)/python -m bench.observers --host-binary $(CARGO_TARGET_DIR)/release/observer-host

##: loadtest	Locust users against three real nodes, headless, 30 s: loadtest/out/load.html
.PHONY: loadtest
loadtest: build
	$(BIN)/python -m loadtest.run

# ---- trust -------------------------------------------------------------------------------------------------------

##: sim	seeds of the simulator on all cores: SEEDS=n FIRST=k [PROFILE=p] [VOTERS=3,5,7|101]; counts go on where they stopped
.PHONY: sim
sim: sim-build
	$(PYTHON) -m trust.simulate $(SIM) --seeds $(or $(SEEDS),1000) --first $(or $(FIRST),1) \
		--profile $(or $(PROFILE),all) --voters $(or $(VOTERS),3$(,)5$(,)7)

# A target directory of its own: it links no RocksDB, and its profile must not make one.
SIM := $(CACHE)/target-sim/sim/sim
, := ,
.PHONY: sim-build
sim-build: | tools
	CARGO_TARGET_DIR=$(CACHE)/target-sim cargo build --profile sim --locked -p sim

##: sim-cut	the seeds that CI runs, whether or not they are on record
.PHONY: sim-cut
sim-cut: sim-build
	$(SIM) --profile all --voters 3,5,7 --first 1 --seeds 1500 --threads $$(nproc)

##: mutants	every planted bug must be noticed by the simulator: [ONLY=name] [SEEDS_MAX=5000]
.PHONY: mutants
mutants: | tools
	$(PYTHON) -m mutants $(if $(ONLY),--only $(ONLY)) --seeds-max $(or $(SEEDS_MAX),5000)

##: mutants-cut	the same on the seeds of mutants/kills.toml: what CI runs
.PHONY: mutants-cut
mutants-cut: | tools
	$(PYTHON) -m mutants --replay

##: trust	every suite of docs/trust.md at its full count (many hours): interrupted, it goes on where it stopped
.PHONY: trust
trust: build-failpoints lossyfs linear-check
	$(MAKE) sim SEEDS=1000000
	$(MAKE) sim SEEDS=2000 VOTERS=101
	$(BIN)/python -m trust run
	$(BIN)/python -m trust report

##: trust-cut	the cut of every suite that CI runs, the mutants and the simulator: about 10 minutes on two cores
.PHONY: trust-cut
trust-cut: build-failpoints lossyfs linear-check
	$(MAKE) sim-cut
	$(MAKE) mutants-cut
	$(BIN)/python -m trust run --cut

##: docker-image	the image taskquorum:dev of one node (docker/build.sh; needs a Docker daemon, and root for the base)
.PHONY: docker-image
docker-image: wheel .venv/.installed
	docker/build.sh

##: linear-check	the checker of recorded histories (docs/history-format.md), in a target directory of its own
.PHONY: linear-check
linear-check:
	CARGO_TARGET_DIR=$(CACHE)/target-linear cargo build --release --locked -p linear
	@echo "make: $(CACHE)/target-linear/release/linear-check is ready"

# ---- upkeep ------------------------------------------------------------------------------------------------------

##: lock	writes requirements/*.txt again from what .venv holds
.PHONY: lock
lock: .venv/.installed
	$(BIN)/python requirements/lock.py

##: clean	removes what was built here; the shared cache stays
.PHONY: clean
clean:
	rm -rf dist build target .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
