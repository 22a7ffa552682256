# Two commands matter: `make demo` (from a bare machine to a report) and `make test` (the whole suite).
SHELL := /bin/bash
.DEFAULT_GOAL := help
export PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help setup setup-dev demo lab-up lab-down test lint format lock bench clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: .venv/.run-stamp ## Make .venv with the pinned dependencies
setup-dev: .venv/.dev-stamp

# The stamp is written last: an interrupted install is simply done again.
.venv/.%-stamp: requirements/%.txt pyproject.toml scripts/make-venv.sh
	scripts/make-venv.sh $(PYTHON) $<
	touch $@

demo: ## From a bare machine to a report: lab hosts, builds from source, a sweep over ssh, figures
	scripts/system-packages.sh demo
	$(MAKE) --no-print-directory setup
	scripts/demo.sh

lab-up: setup ## Start the lab hosts
	$(BIN)/python -m lab up

lab-down: setup ## Remove the lab hosts and everything of theirs
	$(BIN)/python -m lab down

test: ## The whole suite, set-up included
	scripts/system-packages.sh test
	$(MAKE) --no-print-directory setup-dev
	$(BIN)/python -m pytest --numprocesses 3 --no-loadscope-reorder $(PYTEST_ARGS)

lint: setup-dev ## ruff, mypy, import layers, yamllint, ansible-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/yamllint --strict .
	$(BIN)/ansible-lint --offline

format: setup-dev ## Format the Python sources
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock: ## Write requirements/*.txt anew from pyproject.toml (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	    --extra dev pyproject.toml --output-file requirements/dev.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	    --constraints requirements/dev.txt pyproject.toml --output-file requirements/run.txt

clean: ## Remove .venv and caches; results are kept
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
