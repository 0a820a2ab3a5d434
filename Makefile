# Everything runs in .venv, made from requirements.lock on first use; a second run sets up nothing.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Two processes share the tests: one has those that join the Ray session or need S3, one the rest. ARGS=-n0: one process, for a debugger.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadgroup
CONFIG ?= configs/train/formulas.yaml
FORMULAS := data/formulas
# Hundreds of processes import the same code: it is compiled once, also in images that ask Python to write nothing.
unexport PYTHONDONTWRITEBYTECODE
# No display is searched for.
export MPLBACKEND = agg

.PHONY: help setup train test test-services test-all lint format bench gpu-kit clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

setup: $(READY)  ## make the virtual environment, exact versions

$(READY): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else "Inkray needs Python 3.11, %s is %d.%d: make PYTHON=/path/to/python3.11" % (sys.executable, *sys.version_info[:2]))'
	@echo "Setting up $(VENV) (torch and its CUDA libraries: about 4 GB to download on first use)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements.lock
	@touch $(READY)

train: $(READY)  ## synthesize formulas (once), train a recognizer on them, report
ifeq ($(CONFIG),configs/train/formulas.yaml)
	@test -f $(FORMULAS)/dataset.json || $(BIN)/python -m data_pipeline.synthesize formulas $(FORMULAS)
endif
	@$(BIN)/python -m trainers.train $(CONFIG) $(ARGS)

test: $(READY)  ## run the tests, without the slow ones: 20 minutes on 2 slow cores (ARGS="-n0 tests/models -k beam")
	@$(PYTEST) $(ARGS)

test-services: $(READY)  ## run the slow tests that .ci/run runs, an hour on 2 slow cores: S3, kills, resumption, the README's commands
	@$(PYTEST) -m services --durations=30 $(ARGS)

test-all: $(READY)  ## run all tests
	@$(PYTEST) -m "slow or not slow" $(ARGS)

lint: $(READY)  ## run ruff, mypy, import-linter, codespell; docs/configuration.md is current
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/codespell
	@$(BIN)/python -m trainers.config.document --check docs/configuration.md

format: $(READY)  ## let ruff fix what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(READY)  ## run the benchmarks: tables; nothing fails on a time
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-bench.txt
	@$(BIN)/python -m benchmarks.train_overhead $(ARGS)
	@$(BIN)/python -m benchmarks.models
	@$(BIN)/python -m benchmarks.stream

# What training without Ray needs beside torch, timm, torchvision, pyarrow, OpenCV and the like, for Python 3.12 on Linux.
gpu-kit: $(READY)  ## pack what a bare GPU machine needs into data/gpu, 25 MB: sh benchmarks/gpu.sh check --out DIR
	@mkdir -p data/gpu/wheels
	@$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
		--platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --dest data/gpu/wheels $$(grep -iE "^(omegaconf|rapidfuzz)==" requirements.lock)
	@$(BIN)/python -m benchmarks.gpu_parts.datasets data/gpu

clean:  ## remove the environment and caches; runs and data stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
