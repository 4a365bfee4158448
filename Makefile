# Two commands set everything up: `make demo` and `make test`.
PYTHON ?= python3
# What everybody gets by default. `make CONSTRAINTS=/dev/null ...` takes the newest of everything.
CONSTRAINTS ?= constraints.txt
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo serve phone test test-slow mutants check docs bench clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /  /'

demo: $(VENV)/.installed  ## ten hospitals train a pneumonia classifier, in a minute
	$(BIN)/consilium demo

serve: $(VENV)/.installed  ## a coordinator and three hospitals with their pages, to click through
	$(BIN)/consilium demo --serve

phone:  ## scripts of the phone page, from npm packages of locked versions
	cd web-build/phone && npm ci --ignore-scripts --no-audit --no-fund && npm run build

test: $(VENV)/.developing  ## the fast lane of the tests
	$(BIN)/pytest -m "not slow and not engine" -q -n auto
	$(BIN)/pytest -m "engine and not slow" -q

test-slow: $(VENV)/.developing  ## every test
	$(BIN)/pytest -m "not engine" -q -n auto
	$(BIN)/pytest -m engine -q

mutants: $(VENV)/.developing  ## every safeguard removed in turn; a test must fail
	$(BIN)/python tests/mutants.py

check: $(VENV)/.developing  ## style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.developing  ## the figures of benchmarks/RESULTS.md
	$(BIN)/python benchmarks/recipes.py
	$(BIN)/python benchmarks/secagg.py

clean:  ## everything that was made here
	rm -rf $(VENV) build dist

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable .
	touch $@

$(VENV)/.developing: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable ".[dev]"
	touch $@
