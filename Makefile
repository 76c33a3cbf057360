# Every target does its own set-up: a fresh machine needs python3 (>= 3.11), make and pip.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export UV_PYTHON_DOWNLOADS := never

INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt
DEMO_EXTRAS := ml,mlflow-server,embedded

DATA ?=
WEEKS ?=
ROWS ?=
TESTS ?=

.PHONY: help env demo test test-compose chaos fuzz check format bench growth audit constraints clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(BIN)/uv:
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11 to 3.13 is needed: make PYTHON=python3.13 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/uv
	$(INSTALL) --editable '.[$(DEMO_EXTRAS)]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/uv
	$(INSTALL) --editable '.[$(DEMO_EXTRAS),airflow]' --group dev
	@touch $@ $(VENV)/.demo

env: ## Fill .env with fresh secrets, for docker compose; of what is there only GIT_COMMIT is changed
	@$(PYTHON) -m rakuten.env_file
	@mkdir -p data/raw

demo: $(VENV)/.demo ## Three weeks of data to models, on an embedded PostgreSQL (DATA=dir WEEKS=n ROWS=n)
	$(BIN)/rakuten demo $(if $(DATA),--data "$(DATA)") $(if $(WEEKS),--weeks $(WEEKS)) $(if $(ROWS),--rows $(ROWS))

test: $(VENV)/.dev ## All tests, on an embedded PostgreSQL (TESTS=tests/unit for a part)
	$(BIN)/pytest $(TESTS)

test-compose: $(VENV)/.dev ## The whole system in containers, end to end; needs Docker, builds the images
	TEST_COMPOSE=1 $(BIN)/pytest -s tests/e2e/test_compose.py

chaos: $(VENV)/.dev ## Break everything on purpose, more than 200 times, with a live scoreboard; about an hour
	$(BIN)/python tests/chaos/run.py

fuzz: $(VENV)/.dev ## More than 100,000 random inputs for the CSV reader, the load and the payloads; about 20 minutes
	$(BIN)/pytest --hypothesis-profile=long --timeout=7200 tests/fuzz

check: $(VENV)/.dev ## Format, lint (Python and SQL), types, import contracts, containers
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/mypy dags/weekly_ml_pipeline_dag.py
	$(BIN)/lint-imports
	$(BIN)/sqlfluff lint db/migrations db/sql
	@if [ -x $(BIN)/hadolint ]; then $(BIN)/hadolint */Dockerfile && echo 'hadolint: no complaints'; \
	else echo 'hadolint: skipped, it has no wheel for this platform'; fi
	@if docker compose version >/dev/null 2>&1; then mkdir -p build && $(BIN)/python -m rakuten.env_file build/compose.env && \
	docker compose --env-file build/compose.env config --quiet && echo 'docker-compose.yml: valid'; \
	else echo 'docker-compose.yml: skipped, docker compose is not here'; fi

format: $(VENV)/.dev ## Format and fix what can be fixed
	$(BIN)/ruff format
	$(BIN)/ruff check --fix
	$(BIN)/sqlfluff fix --quiet db/migrations db/sql

$(VENV)/.rivals: $(VENV)/.dev
	$(INSTALL) --group rivals
	@touch $@

bench: $(VENV)/.rivals ## Benchmarks: ours beside the usual way, as ratios
	$(BIN)/python tests/benchmarks/run.py

growth: $(VENV)/.dev ## Cost against rows, from a tenth to ten times the challenge, as a table and a figure in build/
	@mkdir -p build
	$(BIN)/python tests/benchmarks/growth.py --json build/growth.json --chart build/growth.png

$(VENV)/.audit: pyproject.toml constraints.txt | $(BIN)/uv
	$(INSTALL) --group audit
	@touch $@

audit: $(VENV)/.audit ## Known vulnerabilities of what constraints.txt pins; needs the network
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict --progress-spinner off

constraints: $(BIN)/uv ## Resolve constraints.txt again
	$(BIN)/uv pip compile --quiet --universal --all-extras --group dev --group rivals --group audit --no-emit-index-url --upgrade pyproject.toml --output-file constraints.txt

clean: ## Remove what the pipeline made (data/raw is kept)
	$(BIN)/rakuten db stop || true
	rm -rf data/postgres data/mlflow data/training_snapshots data/openlineage.jsonl data/generated-* data/logs data/demo-*
