# The front door. `make` or `make help` lists what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSIDE := agent model sdk usercode wire
OLDEST_INSIDE := 3.10
RUN_STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
BENCH_VENV := .venv-bench
BENCH_STAMP := $(BENCH_VENV)/.installed
FAULTS := $(addprefix tests/e2e/test_,faults.py deployed_faults.py deaths.py base_faults.py python_versions.py returning.py schemathesis.py) \
	tests/server/store tests/server/test_container_peer.py tests/cli/test_deploy.py tests/contract/test_calls.py tests/contract/test_own_root.py
TESTERS ?= 2
PYTEST_ARGS ?=
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Who forbids Python to keep byte-code has every test's commands, and pytest's own plugins, compiled anew each time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help runtime demo test test-runtimes test-faults test-soak check format bench docs clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1 \t/' | expand -t 23

# A fresh Debian has no python3-venv: then a virtual environment without pip, filled by the pip outside.
define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "greenroom needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@test -x $(1)/bin/python || $(PYTHON) -m venv $(1) >/dev/null 2>&1 || { rm -rf $(1); $(PYTHON) -m venv --without-pip $(1); }
	@if $(1)/bin/python -m pip --version >/dev/null 2>&1; then \
		$(1)/bin/python -m pip install --quiet -c constraints.txt -e '$(2)'; \
	else \
		$(PYTHON) -m pip --python $(1)/bin/python install --quiet -c constraints.txt -e '$(2)'; \
	fi
endef

$(RUN_STAMP): pyproject.toml constraints.txt
	$(call install,$(VENV),.)
	@touch $@

$(DEV_STAMP): $(RUN_STAMP)
	$(call install,$(VENV),.[dev])
	@touch $@

$(BENCH_STAMP): pyproject.toml constraints.txt
	$(call install,$(BENCH_VENV),.[bench])
	@touch $@

# Root gets real containers: crun starts them. Where it can't be installed, the demo says that it runs in plain processes.
runtime:
	@if [ "$$(id -u)" = 0 ] && ! command -v crun >/dev/null && command -v apt-get >/dev/null; then \
		echo "installing crun, which starts real containers"; \
		export DEBIAN_FRONTEND=noninteractive; install="apt-get install -y -qq --no-install-recommends crun"; \
		{ $$install || { apt-get update -qq && $$install; }; } >/dev/null 2>&1 \
			|| echo "crun could not be installed (apt-get install crun says why)"; \
	fi

demo: $(RUN_STAMP) runtime  ## run examples/lifecycle.py: enter once, several calls, exit
	@$(BIN)/greenroom run examples/lifecycle.py

test: $(DEV_STAMP)  ## the whole suite
	@$(BIN)/python -m pytest -n $(TESTERS) $(PYTEST_ARGS)

test-runtimes: $(DEV_STAMP)  ## the whole contract by runc too, of which `make test` has a short form
	@GREENROOM_TEST_RUNTIMES=all $(BIN)/python -m pytest -n $(TESTERS) tests/contract -k runc $(PYTEST_ARGS)

test-faults: $(DEV_STAMP)  ## the fault tests in their long form, and other Debians
	@GREENROOM_TEST_FAULTS=long $(BIN)/python -m pytest $(FAULTS) $(PYTEST_ARGS)

test-soak: $(DEV_STAMP)  ## many containers, ten minutes of everything at once, a million inputs
	@GREENROOM_TEST_SOAK=long $(BIN)/python -m pytest tests/e2e/test_soak.py tests/e2e/test_standing_soak.py tests/e2e/test_million.py -s $(PYTEST_ARGS)

check: $(DEV_STAMP)  ## formatting, lint, types; of what runs in containers, by their oldest Python too
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/mypy --python-version $(OLDEST_INSIDE) src/greenroom/__init__.py $(INSIDE:%=src/greenroom/%)

format: $(DEV_STAMP)  ## rewrite the files as `make check` wants them
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(BENCH_STAMP)  ## one table: Greenroom and its peers, in the same run
	@$(BENCH_VENV)/bin/python -m benchmarks $(BENCH_ARGS)

docs: $(DEV_STAMP)  ## draw the state diagrams and the pictures of docs/
	@$(BIN)/python docs/generate.py

clean:  ## remove what the other targets made
	rm -rf $(VENV) $(BENCH_VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
