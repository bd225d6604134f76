# headgate: `make demo` shows it, `make test` proves it. Both make their own environment in .venv first.

PYTHON ?= python3
RUN    := .venv/bin/python

.PHONY: help demo test lint unit bench chaos fuzz generated format clean
.DEFAULT_GOAL := help

help: ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 20

demo: .venv/.ready ## a gateway, two workers, the real openai client, a live table (DEMO_SECONDS bounds it; STORE=redis)
	@$(RUN) examples/demo.py --store $(or $(STORE),sqlite)

test: lint unit ## everything that a change must pass

lint: .venv/.ready ## style, types, import layers
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy
	@.venv/bin/lint-imports --no-cache

# Half of the time is waiting for stores: two halves side by side take little more than the longer one. The stores' half
# is shown when the other has ended.
HALF := tests/quota tests/stores
unit: .venv/.ready ## the tests alone
	@$(RUN) -Im pytest $(HALF) > .half.log 2>&1 & half=$$!; trap 'kill $$half' INT TERM; \
	$(RUN) -Im pytest $(addprefix --ignore=,$(HALF)); rest=$$?; \
	wait $$half; stores=$$?; cat .half.log; rm -f .half.log; exit $$((rest + stores))

bench: .venv/.bench ## figures beside the peers
	@$(RUN) benchmarks/asgi.py
	@$(RUN) benchmarks/stores.py
	@$(RUN) benchmarks/decisions.py
	@$(RUN) benchmarks/over_http.py
	@$(RUN) benchmarks/scanner.py
	@$(RUN) benchmarks/streams.py

chaos: .venv/.ready ## real processes, killed at random: long
	@$(RUN) -Im pytest -m chaos tests

fuzz: .venv/.ready ## property tests with many more examples, a million request targets: long
	@HYPOTHESIS_PROFILE=long $(RUN) -Im pytest tests/quota tests/stores tests/policy tests/corpus/test_fuzz.py

generated: .venv/.ready ## the files that are made from the code: the JSON Schema, the references in docs/
	@$(RUN) -Im headgate.policy.schema > policies/headgate-v1.schema.json
	@$(RUN) -Im headgate.policy.reference policy > docs/policy-reference.md
	@$(RUN) -Im headgate.policy.reference problems > docs/problems.md

format: .venv/.ready ## write the house's formatting
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

clean: ## remove the environment and what was built
	rm -rf .venv .half.log dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis

# uv where it is installed, else venv and pip. Made anew when the dependencies change.
.venv/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "headgate needs Python 3.11 or newer; say which with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "making the environment in .venv (once; about a minute)"
	@if command -v uv >/dev/null; then \
	  uv venv --quiet --allow-existing --python $(PYTHON) .venv && uv pip install --quiet --python .venv -e . --group dev; \
	else \
	  $(PYTHON) -m venv .venv && $(RUN) -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1' && \
	  $(RUN) -m pip install --quiet --disable-pip-version-check -e . --group dev; \
	fi
	@touch $@

.venv/.bench: .venv/.ready
	@if command -v uv >/dev/null; then uv pip install --quiet --python .venv --group bench; \
	else $(RUN) -m pip install --quiet --disable-pip-version-check --group bench; fi
	@touch $@
