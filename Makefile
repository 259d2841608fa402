# Everything on a fresh machine: Python >= 3.11, pip, make and a compiler are all it takes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One process for each core, and one for all tests of a file: some share what takes long to make.
PARALLEL := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo test test-long check docs clean

help:
	@echo "make demo       pretrain a small encoder with SimCLR + MSR and look at it"
	@echo "make test       run every test but the long ones"
	@echo "make test-long  run the long ones"
	@echo "make check      format, lint, types, import rules"
	@echo "make docs       build the documentation site: build/site/index.html"
	@echo "make clean      remove the environment and caches"

demo: $(VENV)/installed
	@n=1; while [ -e runs/demo-$$n ]; do n=$$((n + 1)); done; $(BIN)/iclmsr demo --out runs/demo-$$n

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m "not long" $(PARALLEL)

test-long: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m long

check: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python 3.11 or newer is needed, $$($(PYTHON) --version) found: set PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
