# Everything a fresh machine needs is python3 (3.11 or newer) with venv, make and a C compiler.
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test lint docs wheel clean

demo: $(STAMP)
	$(BIN)/python recipes/digits_demo.py

# Processes side by side, of one thread each: nets as small as those of the tests gain from no more.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(STAMP)
	$(BIN)/sphinx-build -W --keep-going -q docs docs/_build/html

wheel: $(STAMP)
	rm -rf build  # left by an earlier build, it would leak removed modules into the wheel
	$(BIN)/python -m build --wheel

install: $(STAMP)

# The stamp makes the install run again only when what is to be installed has changed.
$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("mealkit needs Python 3.11 or newer; name one: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -e '.[dev,demo]'
	touch $@

clean:
	rm -rf build dist src/*.egg-info *.egg-info docs/_build .pytest_cache .mypy_cache .ruff_cache .coverage
