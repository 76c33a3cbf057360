# Every target does its own set-up: a fresh machine needs python3 (>= 3.11), make and pip.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export UV_PYTHON_DOWNLOADS := never

INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt
DEMO_EXTRAS := ml,mlflow-server,embedded,generate

DATA ?=
WEEKS ?=
ROWS ?=
TESTS ?=

.PHONY: help demo test check format bench constraints clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(BIN)/uv:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/uv
	$(INSTALL) --editable '.[$(DEMO_EXTRAS)]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/uv
	$(INSTALL) --editable '.[$(DEMO_EXTRAS),airflow]' --group dev
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo ## Three weeks of data to models, on an embedded PostgreSQL (DATA=dir WEEKS=n ROWS=n)
	$(BIN)/rakuten demo $(if $(DATA),--data "$(DATA)") $(if $(WEEKS),--weeks $(WEEKS)) $(if $(ROWS),--rows $(ROWS))

test: $(VENV)/.dev ## All tests, on an embedded PostgreSQL (TESTS=tests/unit for a part)
	$(BIN)/pytest $(TESTS)

check: $(VENV)/.dev ## Format, lint, types, import contracts
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## Format and fix what can be fixed
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(VENV)/.dev ## Benchmarks: ours beside the usual way, as ratios
	$(BIN)/python tests/benchmarks/run.py

constraints: $(BIN)/uv ## Resolve constraints.txt again
	$(BIN)/uv pip compile --quiet --universal --all-extras --group dev --no-emit-index-url --upgrade pyproject.toml --output-file constraints.txt

clean: ## Remove what the pipeline made (data/raw is kept)
	$(BIN)/rakuten db stop || true
	rm -rf data/postgres data/mlflow data/training_snapshots data/generated data/logs data/demo-*
