# The common tasks. A fresh clone needs Python 3.11 to 3.13, make and a package index, nothing else.
# Another interpreter: make book PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

export HF_HUB_OFFLINE := 1
export HF_DATASETS_OFFLINE := 1

.PHONY: help book lab test lint bench clean

help:
	@echo "make book    run every page at laptop scale and build the site in _build/html"
	@echo "make lab     open JupyterLab with the first page; every page opens as a notebook"
	@echo "make test    check the style, run the tests (pages and site at smoke scale)"
	@echo "make lint    check the style only"
	@echo "make bench   measure: loop, bfloat16 and compile, Algorithm 1, sampler, public packages, two processes; records in data/results"
	@echo "make clean   remove what was built (the environment in .venv stays)"

book: $(STAMP)
	$(BIN)/dmmd-lite book --scale laptop

# A page opens as a notebook because of .jupyter/labconfig, which goes before the user's own settings of that kind.
lab: $(STAMP)
	JUPYTER_CONFIG_PATH="$(CURDIR)/.jupyter" $(BIN)/jupyter lab --LabApp.default_url=/lab/tree/book/intro.py

test: lint
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check

# bionemo-moco asks for numpy below 2 and runs with later ones.
bench: $(STAMP)
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[bench]"
	$(BIN)/python -m pip install -q -c constraints.txt --no-deps bionemo-moco
	for script in loop utilisation precision algorithm1 sampling peers processes; do $(BIN)/python benchmarks/$$script.py || exit 1; done

clean:
	rm -rf _build dist .pytest_cache .ruff_cache

# torch first: under the constraint it is the tested build, whatever else asks for torch.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || \
	  { echo "PYTHON=$(PYTHON): Python 3.11, 3.12 or 3.13 is needed, found $$($(PYTHON) --version 2>/dev/null || echo none); try make PYTHON=python3.11" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[book,test]"
	@touch $@
