# Two commands: `make sync` shows the whole thing at work, `make test` proves it. Each sets up what it needs by itself.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# which tests: the slow ones are left out (every case of some tables, other people's plugins, Airflow, hundreds of sequences of days)
TESTS ?= not slow
# how many processes test at once
WORKERS ?= 2
# make PYTHON=... replaces an environment that another Python made
ifneq ($(filter command environment,$(origin PYTHON)),)
VERSION := -c 'import sys; print(*sys.version_info[:3], sep=".")'
ifneq ($(shell $(PYTHON) $(VERSION)),$(shell test -x $(BIN)/python && $(BIN)/python $(VERSION)))
$(shell rm -f $(VENV)/.ready)
endif
endif
PACKAGES := tap-nosto-segments/tap_nosto_segments target-dotdigital/target_dotdigital

.PHONY: sync test test-all lint style types architecture dependencies documents documents-check site coverage interface bench drill explore clean

sync: $(VENV)/.ready
	$(BIN)/python -m nosto_dotdigital_sandbox.demo

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) -m "$(TESTS)"

test-all:
	$(MAKE) test TESTS="slow or not slow"

# the pre-commit hooks are the same six targets; they read the same files and change none, so two run at a time, the longest first
LINT := types documents-check style architecture dependencies site
lint: $(VENV)/.ready
	@$(MAKE) --no-print-directory --jobs=2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target) $(LINT)

style: $(VENV)/.ready
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .

types: $(VENV)/.ready
	$(BIN)/mypy --no-error-summary $(PACKAGES) tests tools

# the contracts in pyproject.toml
architecture: $(VENV)/.ready
	$(BIN)/lint-imports --no-logo --no-cache

# unused and undeclared dependencies of each package
dependencies: $(VENV)/.ready
	cd tap-nosto-segments && ../$(BIN)/deptry --no-ansi .
	cd target-dotdigital && ../$(BIN)/deptry --no-ansi .
	cd tests/sandbox && ../../$(BIN)/deptry --no-ansi .

documents-check: $(VENV)/.ready
	$(BIN)/python tools/documents.py --check

documents: $(VENV)/.ready
	$(BIN)/python tools/documents.py

# the documentation in var/site; a link or an anchor that leads nowhere is an error
site: $(VENV)/.ready
	$(BIN)/zensical build --strict --config-file mkdocs.yml

# lines and branches of both packages that the tests reach, in processes of their own too; a report, no gate
coverage: $(VENV)/.ready
	mkdir -p var/coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(WORKERS) -m "$(TESTS)"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# renews tests/pipeline/interface/, which test_interface.py compares with what the plugins print
interface: $(VENV)/.ready
	RENEW_INTERFACE=1 $(BIN)/python -m pytest tests/pipeline/test_interface.py

# speed and memory against baselines; writes tests/benchmarks/README.md. BENCH=postgresql runs one part, and keeps the other figures
bench: $(VENV)/.ready
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/bench.py $(BENCH)

# every fault at every call; prints the table that docs/how-it-works.md sums up
drill: $(VENV)/.ready
	PYTHONPATH=tests $(BIN)/python -W ignore -m support.drill

# sequences of days that no test has seen yet; prints the shortest one that goes wrong
explore: $(VENV)/.ready
	SEQUENCES=$${SEQUENCES:-1000} $(BIN)/python -m pytest -n 0 -m slow tests/pipeline/test_stateful.py

clean:
	rm -rf $(VENV) .meltano .cache var

# uv installs in a fraction of pip's time. It does not read pip's configuration, so it gets pip's index; where uv cannot install, pip does.
INSTALL := -c constraints.txt --group dev -e './tap-nosto-segments[s3]' -e './target-dotdigital[postgres,notify]' -e ./tests/sandbox
$(VENV)/.ready: constraints.txt pyproject.toml tap-nosto-segments/pyproject.toml target-dotdigital/pyproject.toml tests/sandbox/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) install -c constraints.txt uv
	@index="$${PIP_INDEX_URL:-$$($(PIP) config get global.index-url 2>/dev/null)}"; test -z "$$index" || export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$$index}"; \
	echo "$(BIN)/uv pip install $(INSTALL)"; $(BIN)/uv pip install --quiet --python $(BIN)/python $(INSTALL) || { $(PIP) install --upgrade 'pip>=25.1' && $(PIP) install $(INSTALL); }
	@touch $@
