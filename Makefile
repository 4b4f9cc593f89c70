# Each target does the set-up it needs. A fresh machine needs Python 3.11 to 3.13, make and git only.
PYTHON ?= python3
BIN := .venv/bin
LOCKS := dev api flows dashboard
EXTRAS_dev := $(patsubst %,--extra %,loop api dashboard postgresql xgboost lightgbm catboost explain dask dev)  # ray: 280 MB
EXTRAS_api := --extra api --extra postgresql --extra explain
EXTRAS_flows := --extra loop --extra postgresql --extra explain --extra dask
EXTRAS_dashboard := --extra dashboard --extra postgresql
compile = $(BIN)/uv pip compile pyproject.toml $(EXTRAS_$(1)) $(LOCK)
LOCK := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet
export DO_NOT_TRACK = 1
export MLFLOW_DISABLE_TELEMETRY = true
export PREFECT_SERVER_ANALYTICS_ENABLED = false
export PYTHONDONTWRITEBYTECODE =  # processes start by the dozen, and each would compile everything anew

.PHONY: setup demo test test-long check bench up lock
.DEFAULT_GOAL := setup

setup: .venv/.complete

.venv/.complete: requirements/uv.txt requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "driftloop needs Python 3.11 to 3.13; name one with make PYTHON=...")'
	@echo "Setting up .venv (once) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@$(BIN)/python -W ignore -m driftloop.cli.blank
	@touch $@

demo: setup
	@$(BIN)/driftloop demo

# Two workers more than cores, as many tests wait for processes; the longest files first, see tests/conftest.py.
TESTS = $(BIN)/python -m pytest \
  -n $$($(BIN)/python -c 'import os; print(os.cpu_count() + 2)') --dist loadfile --no-loadscope-reorder

test: setup
	@$(TESTS) -m "not long"

# Among them the demo, whole programs killed midway, simulations of error rates, crowds of clients, months of real input.
test-long: setup
	@$(TESTS) -m long

check: setup
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@set -e; $(foreach lock,$(LOCKS),\
	  cp requirements/$(lock).txt .venv/lock.txt; $(call compile,$(lock)) -o .venv/lock.txt >/dev/null; \
	  diff -u requirements/$(lock).txt .venv/lock.txt || { echo "requirements/$(lock).txt is out of step with pyproject.toml: run make lock"; exit 1; };)

bench: setup
	@$(BIN)/python -m benchmarks

up: setup
	@$(BIN)/driftloop up data/streamflow

# Compile the locks anew from pyproject.toml; versions already locked stay unless a range forbids them.
lock: setup
	@set -e; $(foreach lock,$(LOCKS),$(call compile,$(lock)) -o requirements/$(lock).txt >/dev/null;)
