# Everything a person runs here. `make demo` needs Python 3.11+ and nothing else; `make test` sets up all that it needs.
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python

.PHONY: help demo demo-swarm test test-machines test-pythons check bench fuzz docs format assets clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## the whole way on this machine: eight architectures, one name, an application from source
	@tools/venv.sh $(VENV) demo
	@$(PY) -m manyfest demo --app examples/qcon $$(test -t 0 -a -t 1 && echo --serve)

demo-swarm: ## the same on a swarm of an x86_64 and an i686 node, made on this machine (Debian, root; minutes)
	@tools/venv.sh $(VENV) dev
	@tools/test-packages.sh
	@$(PY) tools/demo_swarm.py

test: ## everything, on real parts: engines, registries, emulators, machines (about twenty minutes)
	@tools/venv.sh $(VENV) dev
	@tools/test-packages.sh
	@$(MAKE) --no-print-directory lint
	$(PY) -m pytest tests -m "not machines"

test-machines: ## whole machines of every architecture, in QEMU (about ten minutes)
	@tools/venv.sh $(VENV) dev
	@tools/test-packages.sh qemu-system-ppc qemu-system-x86
	$(PY) -m pytest tests -m machines

check: ## the quick tests: format, lint, types, architecture, docs, units (under two minutes)
	@tools/venv.sh $(VENV) dev
	@$(MAKE) --no-print-directory lint
	$(PY) -m pytest tests -m "not real and not slow and not property"

test-pythons: ## the quick tests on the Pythons of Debian 13 and unstable (root; about five minutes)
	@tools/other-pythons.sh

.PHONY: lint
lint:
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PY) tools/make_docs.py --check
	$(PY) tools/make_programs.py --check

bench: ## figures against docker, skopeo, buildah, crane and manifest-tool, in one run
	@tools/venv.sh $(VENV) dev
	@tools/test-packages.sh
	$(PY) bench/run.py

fuzz: ## throw damaged bytes at every reader, guided by coverage (about four minutes)
	@tools/venv.sh $(VENV) dev
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check atheris
	$(PY) tests/fuzz/run.py

docs: ## write the generated pages again
	@tools/venv.sh $(VENV) dev
	$(PY) tools/make_docs.py

format: ## format and sort imports
	@tools/venv.sh $(VENV) dev
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

assets: ## check the generated test assets
	@tools/venv.sh $(VENV) dev
	$(PY) tools/make_programs.py --check
	$(PY) tests/assets/make_assets.py --check

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
