# The commands of a working copy. Each one sets up .venv when there is none, and installs again only when
# pyproject.toml or constraints.txt has changed. `make` lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?= python3
WORKERS ?= 2
PYTEST_ARGS ?=
RESULTS ?=
SEED ?= 0
MINUTES ?= 10
LIST ?=
VERSIONS_TESTS ?= tests/cli/test_asking.py tests/cli/test_models.py tests/data tests/document tests/ranking tests/serving \
  --deselect tests/data/test_opening.py::test_commands_refuse_what_is_no_regular_file --ignore tests/data/test_ties_in_time.py --ignore tests/serving/test_schema.py
RECIPES ?= bspm/gowalla bspm/yelp2018 chebycf/gowalla gf-cf/gowalla gf-cf/yelp2018 ease/gowalla ease/yelp2018 diffrec/ml-100k \
  sdrm/alb-svd

VENV := .venv
BIN := $(VENV)/bin
EXTRAS := als,mcp,privacy,serve,tensorboard,train,tune
PINS := pyproject.toml constraints.txt
INSTALL := $(BIN)/python -m pip install -qq --constraint constraints.txt --build-constraint constraints.txt

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test check docs size lock lowest newest release reproduce bench similar forgetting false-alarms fuzz live results clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  PYTHON=python3.12            the interpreter that .venv is made with (3.11 or newer)"
	@echo "  WORKERS=2 PYTEST_ARGS='-k …' for test;  RECIPES='bspm/gowalla …' for reproduce"
	@echo "  RESULTS='ml-1m-paper …'        parts of docs/results/results.toml, for results; --pages computes nothing"
	@echo "  UNBLUR_DATA=FOLDER           where public data sets lie, for test, reproduce, bench, false-alarms and results"

demo: $(VENV)/.run ## the embedded demonstration: a table of models on a generated data set
	@$(BIN)/unblur demo

test: $(VENV)/.test ## the test suite; with UNBLUR_DATA also the tests on real data
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

check: $(VENV)/.check ## ruff, mypy --strict and the layers
	@status=0; \
	for command in "ruff check ." "ruff format --check ." "mypy" "lint-imports --no-logo --no-cache"; do \
	  echo "-- $$command"; $(BIN)/$$command || status=1; \
	done; \
	exit $$status

docs: $(VENV)/.docs ## the site, from docs/, docstrings, commands and recipes: site/index.html
	@rm -rf site
	@$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --quiet --jobs auto --doctree-dir site/.doctrees docs site
	@echo "Open site/index.html"

size: $(VENV)/.pip ## the counts that the layout is held to; LIST=--list names what was counted
	@$(BIN)/python -m tests.size $(LIST)

# Torch is left out: its builds come from other places, by machine. The lock names the
# host of each file, so it is made where it is used and not kept here.
lock: $(VENV)/.lock ## pylock.toml: the versions of constraints.txt that a base install with serve and mcp takes, with their hashes
	@$(BIN)/uv pip compile --quiet --no-header --universal --python-version 3.11 --constraint constraints.txt \
	  --extra mcp --extra serve --format pylock.toml --output-file pylock.toml pyproject.toml

# PYTHON=python3.13 tries another interpreter. The warnings of old versions about still older ones are not ours.
lowest: RESOLUTION := lowest-direct
lowest: $(VENV)/.lock ## tests that need no torch, with the lowest versions that pyproject.toml allows
newest: RESOLUTION := highest
newest: $(VENV)/.lock ## the same with the newest
lowest newest:
	@$(BIN)/uv venv --quiet --clear --python $(PYTHON) build/$@
	@$(BIN)/uv pip install --quiet --python build/$@ --resolution $(RESOLUTION) --editable '.[serve]' --group versions 'httpx>=0.28'
	@OMP_NUM_THREADS=1 build/$@/bin/python -m pytest -W default::DeprecationWarning $(VERSIONS_TESTS) $(PYTEST_ARGS)

# What users get: wheel and sdist alone, each in an empty environment, without this working copy, which would hide a
# file that was not packed. Nothing is uploaded.
release: $(VENV)/.release ## build wheel and sdist into dist/, check them, try each in an empty environment; uploads nothing
	@rm -rf dist; PIP_CONSTRAINT=constraints.txt $(BIN)/python -m build --installer pip --outdir dist . >/dev/null
	@$(BIN)/python -m twine check --strict dist/*
	@scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; dist=$$PWD/dist; \
	for package in "$$dist"/*; do \
	  echo "Installing $${package##*/} into an empty environment"; \
	  $(BIN)/python -m venv --clear "$$scratch/env"; rm -rf "$$scratch/work"; mkdir "$$scratch/work"; \
	  PIP_CONSTRAINT=constraints.txt "$$scratch/env/bin/python" -m pip install -qq "$$package[report]"; \
	  (cd "$$scratch/work"; env -u PYTHONPATH "$$scratch/env/bin/unblur" demo --out demo); \
	  test -s "$$scratch/work/demo/report.html" || { echo "unblur demo has written no page" >&2; exit 1; }; \
	  test "$$("$$scratch/env/bin/unblur" --version)" = "unblur $$(sed -n 's/^version: //p' CITATION.cff)" || { \
	    echo "the package's version is not that of CITATION.cff" >&2; exit 1; }; \
	done; \
	echo "Ready: $$(ls dist | paste -sd ' '). Nothing was uploaded."

reproduce: $(VENV)/.train ## the published numbers, on real data, recipe by recipe
	@missed=""; \
	for recipe in $(RECIPES); do \
	  echo "-- unblur run $$recipe --check"; status=0; \
	  $(BIN)/unblur run "$$recipe" --check || status=$$?; \
	  if [ $$status -eq 130 ]; then exit 130; elif [ $$status -ne 0 ]; then missed="$$missed $$recipe"; fi; \
	done; \
	if [ -n "$$missed" ]; then echo "Not reproduced:$$missed" >&2; exit 1; fi; \
	echo "Reproduced: $(RECIPES)"

bench: $(VENV)/.test ## the benchmarks: our path and the textbook path in one run
	@$(BIN)/python -m benchmarks

forgetting: $(VENV)/.test ## the time that a forgotten user takes, next to a refit
	@$(BIN)/python -m benchmarks.forgetting

false-alarms: $(VENV)/.test ## how often an audit says "leak" of real users who learned nothing; at most 6.5 %
	@$(BIN)/python -m benchmarks.false_alarms

fuzz: $(VENV)/.test ## files damaged, models made to do harm, commands killed; ends with 1 if anything is lost, or raised that is not our error
	@OMP_NUM_THREADS=1 $(BIN)/python -c 'from tests.fuzz import fuzz; raise SystemExit(fuzz($(SEED), $(MINUTES)))'

live: $(VENV)/.test ## the figures of `unblur serve` for a saved model, MODEL=FOLDER, on loopback, and 6,000 requests drawn from its schema; ten minutes
	@$(BIN)/python -m benchmarks.serving $(MODEL)
	@$(BIN)/python -c 'from tests.serving.test_schema import drawn; print("drawn from the schema:", drawn("$(MODEL)", 1000)[1])'

similar: $(VENV)/.test ## how much the similar items of two items overlap, for the recipes on ml-1m
	@$(BIN)/python -m benchmarks.similar $(SIMILAR)

results: $(VENV)/.test ## the comparisons of docs/results, what is missing of them, and README's tables
	@$(BIN)/python -m benchmarks.results $(RESULTS)

clean: ## remove .venv, caches and built packages
	rm -rf $(VENV) build dist site .pytest_cache .hypothesis .mypy_cache .ruff_cache .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# What is installed, one stamp each; the larger sets hold the smaller.

$(VENV)/.pip: constraints.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "unblur needs Python 3.11 or newer; '$(PYTHON)' is not one. Try: make PYTHON=python3.12" >&2; exit 1; }; \
	  echo "Creating $(VENV) with $$($(PYTHON) --version)"; \
	  $(PYTHON) -m venv --clear $(VENV); }
	@$(BIN)/python -m pip install -qq --constraint constraints.txt --upgrade pip
	@touch $@

$(VENV)/.run: $(VENV)/.pip $(PINS)
	@echo "Installing unblur into $(VENV)"
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.train: $(VENV)/.pip $(PINS)
	@echo "Installing unblur with what trained models need into $(VENV) (torch is large: minutes, the first time)"
	@$(INSTALL) --editable '.[train]'
	@touch $(VENV)/.run $@

$(VENV)/.test: $(VENV)/.pip $(PINS)
	@echo "Installing unblur with all extras and the test tools into $(VENV) (minutes, the first time)"
	@$(INSTALL) --editable '.[$(EXTRAS)]' --group test
	@$(INSTALL) --no-deps recbole==1.2.1 # its configuration files alone are read, by tests/compat
	@touch $(VENV)/.run $(VENV)/.train $@

$(VENV)/.release: $(VENV)/.pip $(PINS)
	@$(INSTALL) --group release
	@touch $@

$(VENV)/.lock: $(VENV)/.pip $(PINS)
	@$(INSTALL) --group lock
	@touch $@

$(VENV)/.check: $(VENV)/.pip $(PINS)
	@echo "Installing unblur with all extras and the linters into $(VENV) (minutes, the first time)"
	@$(INSTALL) --editable '.[$(EXTRAS)]' --group lint
	@touch $(VENV)/.run $(VENV)/.train $@

$(VENV)/.docs: $(VENV)/.pip $(PINS)
	@echo "Installing unblur and the site's generator into $(VENV) (minutes, the first time)"
	@$(INSTALL) --editable '.[train]' --group docs
	@touch $(VENV)/.run $(VENV)/.train $@
