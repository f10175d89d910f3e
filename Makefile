# Two commands: `make sync` shows the whole thing at work, `make test` proves it. Each sets up what it needs by itself.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# which tests: the slow ones (ten days of 50,000 contacts, Airflow) are left out
TESTS ?= not slow
# how many processes test at once
WORKERS ?= 2
PACKAGES := tap-nosto-segments/tap_nosto_segments target-dotdigital/target_dotdigital
SANDBOX := tests/sandbox/nosto_dotdigital_sandbox

.PHONY: sync test test-all lint documents bench drill clean

sync: $(VENV)/.ready
	$(BIN)/python -m nosto_dotdigital_sandbox.demo

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) -m "$(TESTS)"

test-all:
	$(MAKE) test TESTS="slow or not slow"

lint: $(VENV)/.ready
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy --no-error-summary $(PACKAGES) $(SANDBOX) tools
	$(BIN)/python tools/documents.py --check

documents: $(VENV)/.ready
	$(BIN)/python tools/documents.py

# speed and memory against baselines; writes tests/benchmarks/README.md
bench: $(VENV)/.ready
	$(BIN)/python tests/benchmarks/bench.py

# every fault at every call; prints the table that the README shows
drill: $(VENV)/.ready
	PYTHONPATH=tests $(BIN)/python -W ignore -m support.drill

clean:
	rm -rf $(VENV) .meltano var

$(VENV)/.ready: constraints.txt requirements-dev.txt tap-nosto-segments/pyproject.toml target-dotdigital/pyproject.toml tests/sandbox/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements-dev.txt
	@touch $@
