# make demo     from nothing to a piece of music in runs/demo/
# make help     the rest

# The first Python that is new enough (a name on the path may be a shim that does not run).
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV   ?= .venv
BENCH  ?= .venv-bench
BIN    := $(VENV)/bin
JOBS   ?= 2

# One thread a process: the test workers share the cores.
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal

.PHONY: help demo test test-all fuzz lint benchmarks-venv clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-24s%s\n", $$1, $$2 }'

demo: $(VENV)/.demo ## train on Bach's chorales, write music to runs/demo/
	@$(BIN)/seqmodal demo

test: $(VENV)/.test ## the test suite, without the slow tests
	$(TEST) -m "not slow" $(ARGS)

test-all: $(VENV)/.test ## the whole test suite
	$(TEST) $(ARGS)

fuzz: $(VENV)/.test ## 100,000 random sequences of ids for every tokenizer
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz.py --jobs $(JOBS) $(ARGS)

lint: $(VENV)/.lint ## ruff over everything, mypy over seqmodal/
	$(BIN)/ruff check .
	$(BIN)/mypy

benchmarks-venv: $(BENCH)/.benchmarks ## what benchmarks/ compares with, in an environment of its own

clean: ## remove both environments and the caches (runs/ stays)
	rm -rf $(VENV) $(BENCH) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# $(VENV)/.X stands for "the extra X is installed"; it is redone when what it was made from changes.
$(VENV)/.%: pyproject.toml constraints.txt | $(VENV)/pyvenv.cfg
	$(call install,$(VENV),$*)

$(BENCH)/.%: pyproject.toml constraints.txt | $(BENCH)/pyvenv.cfg
	$(call install,$(BENCH),$*)

$(VENV)/pyvenv.cfg $(BENCH)/pyvenv.cfg:
	@test -n "$(PYTHON)" || { echo "seqmodal needs Python 3.11 or later: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Making $(@D) with $(PYTHON)"
	@$(PYTHON) -m venv $(@D)

define install
@echo "Installing seqmodal[$(2)] into $(1) (versions from constraints.txt; torch is large, this takes a minute or two)"
@$(1)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.[$(2)]'
@$(1)/bin/python -m compileall -q -j 0 $(1)/lib >/dev/null 2>&1 || true # else each process compiles all that it imports
@touch $@
endef
