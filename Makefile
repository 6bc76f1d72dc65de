# Targets explain themselves: make help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
RUN := runs/skills

# Tests start many processes: without kept bytecode each one compiles all that it imports anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install install-dev experts demo test check lint types style test-fast test-slow mutants golden docs clean

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==$$(sed -n 's/^torch==//p' constraints.txt)
	$(PIP) --constraint constraints.txt --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) --constraint constraints.txt --editable '.[dev]'
	@touch $@

install: $(VENV)/installed ## A virtual environment with evomerge
install-dev: $(VENV)/installed-dev ## ... and what its developers need

experts: $(VENV)/installed ## Train the example's small experts (kept after the first time)
	$(BIN)/python examples/skills/make_experts.py

demo: experts ## Make experts, search, show the result, export the recipe, build and score it
	$(BIN)/evomerge run genomes/skills.yml --run-dir $(RUN)
	$(BIN)/evomerge export $(RUN) -o $(RUN)/winner.yml --force
	rm -rf $(RUN)/model
	$(BIN)/mergekit-yaml $(RUN)/winner.yml $(RUN)/model --quiet 2> $(RUN)/build.log || (cat $(RUN)/build.log; exit 1)
	@echo "Built $(RUN)/model from $(RUN)/winner.yml; lm-eval scores it on the holdout documents:"
	$(BIN)/python examples/skills/score.py $(RUN)/model --run $(RUN) 2> $(RUN)/score.log || (cat $(RUN)/score.log; exit 1)

# Types take most of the time, above all without a cache: in two processes, the rest beside them.
lint: $(VENV)/installed-dev ## Format, lint, types
	@$(MAKE) --no-print-directory -j 2 types style

types: $(VENV)/installed-dev
	nice -n 5 $(BIN)/mypy --num-workers 2

style: $(VENV)/installed-dev
	nice $(BIN)/ruff format --check .
	nice $(BIN)/ruff check .
	nice $(BIN)/python docs/genome_tables.py --check
	nice $(BIN)/python docs/optimizer_tables.py --check
	nice $(BIN)/python docs/module_pages.py --check

# Tests wait for processes and servers: types and style take what they leave of two processors.
test: $(VENV)/installed-dev ## Lint, types and the whole default test suite
	@$(MAKE) --no-print-directory -j 3 types style test-fast

test-fast: $(VENV)/installed-dev ## The default test suite
	$(BIN)/pytest -q -n 2 --dist worksteal

# Long tests lie side by side in the list: who is done takes from the other.
test-slow: $(VENV)/installed-dev ## The tests marked slow
	$(BIN)/pytest -q -n 2 --dist worksteal -m slow

mutants: $(VENV)/installed-dev ## Whether the tests notice small faults in the package
	$(BIN)/python benchmarks/mutants.py

golden: $(VENV)/installed-dev ## Rewrite golden files; read the diff before you commit it
	$(BIN)/pytest -q --update-golden

docs: $(VENV)/installed-dev ## Rewrite generated parts of docs/
	$(BIN)/python docs/genome_tables.py
	$(BIN)/python docs/optimizer_tables.py
	$(BIN)/python docs/module_pages.py

clean: ## Remove runs, caches and the example's models, not the environment
	rm -rf runs build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis examples/skills/models
