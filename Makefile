# SPDX-License-Identifier: Apache-2.0
# Every target sets up what it needs first. `make setup PYTHON=/path/to/python3.12` takes another Python.

SHELL := /bin/bash
ifndef PYTHON
# The first Python 3.11 or 3.12 found; the one beneath, should an environment be active.
PYTHON := $(firstword $(foreach name,python3 python3.12 python3.11,$(shell $(name) -c 'import sys; \
	print(sys._base_executable if (3, 11) <= sys.version_info < (3, 13) else "")' 2>/dev/null)) python3)
endif
CORES ?= all
# Share by which a ratio may miss its target in `make bench`.
TOLERANCE ?= 0
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

# Stamps are written last and named after what was installed: an interrupted or outdated set-up is made anew.
PACKAGES := $(VENV)/requirements-$(shell sha256sum < requirements.lock | cut -c 1-16)
PROJECT := $(VENV)/pyproject-$(shell sha256sum < pyproject.toml | cut -c 1-16)

.PHONY: help setup demo test lint format docs bench lock

help: ## what can be made (the default)
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /make \1\t/' | expand -t 14

setup: $(PROJECT) ## .venv from requirements.lock, about 6 GB

demo: setup ## the demo benchmark and its report in results/demo
	snakemake --cores $(CORES)
	snakemake --report results/demo/report.html
	@echo "Done. Begin with results/demo/index.html; the files it is made of lie beside it."

# A file is the work of one process, so that what its tests share is made once; one thread each, or they would starve.
test: setup ## every test
	OMP_NUM_THREADS=1 pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: setup ## ruff, snakefmt and Snakemake's own lint
	ruff check
	ruff format --check
	snakefmt --check Snakefile workflow
	snakemake --lint

format: setup ## rewrite the sources as lint wants them
	ruff check --fix
	ruff format
	snakefmt Snakefile workflow

docs: setup ## the documentation as a site, in site/
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet

bench: setup ## speeds as ratios in one run: start-up, metrics against tools, models against others' code
	python -m bench.workflow --tolerance $(TOLERANCE)
	python -m bench.evaluation --tolerance $(TOLERANCE)
	python -m bench.dc_ae --tolerance $(TOLERANCE)
	python -m bench.diffusion --tolerance $(TOLERANCE)

# requirements.lock: every package with the hashes of its files, for Python 3.11 and 3.12, without the address of any
# package index (pip's own settings name that).
lock: setup ## resolve pyproject.toml's dependencies anew into requirements.lock
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --fork-strategy fewest --upgrade \
	    --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet --output-file requirements.lock

$(PACKAGES):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || { \
	  echo "make setup: $(PYTHON) is not Python 3.11 or 3.12; make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make setup: $(PYTHON) cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing requirements.lock into $(VENV): about 6 GB, a few minutes."
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --quiet --no-deps --require-hashes --requirement requirements.lock
	@touch $@

$(PROJECT): $(PACKAGES)
	$(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
