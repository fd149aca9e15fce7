PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup serve demo test chaos fuzz lint lock clean

KILLS ?= 100
CASES ?= 50000

setup: $(VENV)/.installed

# Hashes pin every download; no index address stands in the lock, so the machine's own pip settings apply.
$(VENV)/.installed: requirements-dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "banditd needs Python 3.11 or newer, found " + sys.version.split()[0] + "; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements-dev.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -m bandits.warm
	touch $@

serve: setup
	$(BIN)/banditd serve

demo: setup
	$(BIN)/banditd demo

test: setup
	$(BIN)/python -m pytest

# The long forms of what `make test` does with 10 kills and 2,000 cases.
chaos: setup
	$(BIN)/python -m pytest -s -o timeout=0 --kills $(KILLS) tests/service/test_crashes.py

fuzz: setup
	$(BIN)/python -m pytest -s -o timeout=0 --cases $(CASES) tests/service/test_fuzz_http.py tests/service/test_fuzz_receipts.py tests/bandits/test_fuzz_fold.py

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Needs uv; the two files are all that an installation reads.
lock:
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml -o requirements.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --group dev -c requirements.txt pyproject.toml -o requirements-dev.txt

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
