# Two commands are enough: `make run` (the main job on real input) and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.PHONY: run test test-all bench check docs format clean

run: $(VENV)/installed
	$(BIN)/harness models fetch
	$(BIN)/harness run

test: $(VENV)/installed
	$(BIN)/pytest -n $(WORKERS) -m "not slow"

test-all: $(VENV)/installed
	$(BIN)/pytest -n $(WORKERS)

# The sweep, beside other ways to make it; and whole commands, which WAITS="--before ../older-checkout" puts beside older
# ones. BENCH="--rounds 5 --only qwen3-8" chooses; one thread, so that a ratio does not depend on the number of cores.
bench: $(VENV)/installed
	MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python benchmarks/sweep.py $(BENCH)
	$(BIN)/python benchmarks/waits.py $(WAITS)

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/check.py

# The site, in docs/_build; a warning is an error.
docs: $(VENV)/installed
	$(BIN)/sphinx-build -W --keep-going -n -q docs docs/_build
	@echo "open docs/_build/index.html"

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed: make PYTHON=python3.12')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis results docs/_build
