# make lab         the course in JupyterLab, in your own copy under work/ (ARGS="--no-browser --port=9000" and the like)
# make test        the tests, in some minutes (ARGS="tests/test_model.py -x" and the like)
# make install     .venv with the pinned versions and the gptlib command; quick when nothing changed
#
# For those who change the course:
# make notebooks   build notebooks/, exercises/ and solutions/ from source/ (CHECK=1: write nothing, run everything afresh)
# make lint        ruff, mypy, and who may import whom
# make test-all    every test, the long ones too
# make test-latest the tests with the newest versions of everything, in .venv-latest
# make bench      compare with other implementations, into docs/benchmarks.md; ten minutes (ARGS="--nanogpt FOLDER")
# make site        the course as static pages with live views, in build/site
# make pins        compile constraints.txt from pyproject.toml

PYTHON ?= python3
BIN := .venv/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install -c constraints.txt

.PHONY: help lab test install notebooks lint test-all test-latest bench site pins
.DELETE_ON_ERROR:

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

install: .venv/.installed

lab: .venv/.installed
	@$(BIN)/python source/lab.py $(ARGS)

test: .venv/.installed
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-all: .venv/.installed
	$(BIN)/python -m pytest $(ARGS)

notebooks: .venv/.installed
	@$(BIN)/python source/build.py $(if $(CHECK),--check --run) $(ARGS)

lint: .venv/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.installed
	$(BIN)/python benchmarks/everything.py $(ARGS)

test-latest: .venv/.installed
	$(BIN)/python -m venv --clear .venv-latest
	.venv-latest/bin/python -m pip install --quiet --upgrade pip
	.venv-latest/bin/python -m pip install --quiet -e ".[test]"
	.venv-latest/bin/python -m pytest -m "not slow" $(ARGS)

site: .venv/.installed-site
	$(BIN)/python source/website/build.py $(ARGS)

pins: .venv/.installed-dev
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-header --no-annotate \
	    --no-emit-index-url --no-emit-find-links $(ARGS) -o constraints.txt pyproject.toml

.venv/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { \
	    echo "Inside GPT needs Python 3.11 or newer, and $(PYTHON) is '$$($(PYTHON) --version 2>&1)'; name another, as in: make install PYTHON=python3.12" >&2; \
	    exit 1; }
	@$(PYTHON) -m venv .venv || { \
	    echo "$(PYTHON) could not make .venv; on Debian and Ubuntu the package python3-venv is needed" >&2; \
	    exit 1; }
	@touch $@

# setuptools is pinned and installed first, so that building the course itself fetches nothing that is not pinned.
.venv/.installed: .venv/.python pyproject.toml constraints.txt
	@echo "installing what the course needs into .venv; the first time takes some minutes"
	@$(PIP) --quiet pip setuptools
	@$(PIP) --no-build-isolation -e ".[test]"
	@touch $@

.venv/.installed-site: .venv/.installed
	@$(PIP) --quiet --no-build-isolation -e ".[site]"
	@touch $@

.venv/.installed-dev: .venv/.installed
	@$(PIP) --quiet --no-build-isolation -e ".[dev]"
	@touch $@
