# Everything happens in .venv, which the first target that needs it makes. Only Python 3.10+ and git have to be there.
PYTHON ?= python3
VENV := .venv
RUNS := $(VENV)/.runs# the package alone
INSTALLED := $(VENV)/.installed# and what its tests need

# A picture of your own: make demo PICTURE=me.jpg, and if the person does not fill it, BOX="x y width height".
PICTURE ?=
BOX ?=
EXAMPLE := docs/images/person.jpg --box 113 119 199 373 --focal-px 1090

.PHONY: help install demo test lint format package docs clean

help:
	@echo "make demo     estimate the pose in a picture (PICTURE=me.jpg BOX='x y width height' for your own)"
	@echo "make test     run the tests (PYTEST_ARGS='-k geometry' for some of them)"
	@echo "make lint     check style, spelling and types"
	@echo "make format   repair style"
	@echo "make package  build sdist and wheel into dist/, install the wheel into an empty environment and use it there"
	@echo "make docs     build the documentation into build/docs"
	@echo "make clean    remove .venv and what the commands wrote to out/, dist/ and build/"

install: $(INSTALLED)

$(RUNS): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -c constraints.txt -e .
	touch $@

$(INSTALLED): $(RUNS)
	$(VENV)/bin/python -m pip install -c constraints.txt -e ".[dev]"
	touch $@

demo: $(RUNS)
	$(VENV)/bin/jointdetr predict $(if $(PICTURE),"$(PICTURE)" $(if $(BOX),--box $(BOX)),$(EXAMPLE)) --output out

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest -q -n logical --maxprocesses 8 --dist loadfile $(PYTEST_ARGS)

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/codespell
	$(VENV)/bin/basedpyright --pythonpath $(VENV)/bin/python

format: $(INSTALLED)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

package: $(INSTALLED)
	rm -rf dist
	$(VENV)/bin/python -m build --no-isolation
	$(VENV)/bin/python tools/check_distribution.py

docs: $(INSTALLED)
	$(VENV)/bin/mkdocs build --strict

clean:
	rm -rf $(VENV) out dist build
