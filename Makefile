# Facet's front door. `make` alone prints what there is.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup install demo up servers test check bench screenshots interop lock clean chromium

VENV := .venv/bin
# The first Python on the path that is 3.11 or later; PYTHON=... names another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
INSTALL = @test -n "$(PYTHON)" || { echo "Facet needs Python 3.11 or later, and none is on the path."; \
	echo "  Remedy: install one, then: make PYTHON=/path/to/python3 $@"; exit 1; } >&2; "$(PYTHON)" -I explorer/local/install.py

help:  ## print this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-12s %s\n' "$$name" "$$text"; done

setup:  ## make .venv with everything that developers need
	$(INSTALL) dev

install:
	$(INSTALL) demo

demo: install  ## start Facet with the bundled model; Ctrl-C stops it
	@exec $(VENV)/python -m explorer.local demo

up: install  ## start Facet with what its database holds
	@exec $(VENV)/python -m explorer.local up

servers: install  ## start only the embedded Postgres and Valkey
	@exec $(VENV)/python -m explorer.local servers

test: setup chromium  ## set up, then run every test; ARGS='-k words' chooses
	@$(VENV)/python -m tests.interop.environments oracles
	@exec $(VENV)/python -m pytest $(ARGS)

check: setup  ## lint, formatting and types
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy

bench: setup  ## run the benchmarks; NAME=... chooses one
	@exec $(VENV)/python -m benchmarks $(NAME)

screenshots: setup chromium  ## take the README's pictures from the running demonstration
	@exec $(VENV)/python -m docs.screenshots

interop: setup  ## compare with every other package, each in an environment of its own
	@$(VENV)/python -m tests.interop.environments
	@exec $(VENV)/python -m pytest -m 'interop or packages' $(ARGS)

lock: setup  ## write the locks anew from .venv
	@$(VENV)/python -m explorer.local.lock

clean:  ## remove .venv and caches; the data under .local stays
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis .local/interop .local/static
	find . -name __pycache__ -prune -exec rm -rf {} +

# The browser tests drive the system's Chromium. Where it is missing and may be installed without a question, it is.
chromium:
	@if ! command -v "$${FACET_CHROMIUM:-chromium}" >/dev/null 2>&1; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
			echo "Installing Chromium for the browser tests"; mkdir -p .local/logs; \
			{ apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
				chromium fonts-dejavu-core; } </dev/null >.local/logs/chromium.log 2>&1 \
				|| echo "Chromium could not be installed (see .local/logs/chromium.log): browser tests will be skipped"; \
		else echo "No Chromium on the path: browser tests will be skipped"; fi; fi
