# Everything runs from a virtual environment of its own, made on first use. Works with the GNU
# make 3.81 that macOS ships: no .ONESHELL, no != assignment.

ifneq (3.81,$(firstword $(sort 3.81 $(MAKE_VERSION))))
$(error This Makefile needs GNU make 3.81 or newer, and this is '$(MAKE_VERSION)')
endif

BIN := .venv/bin
READY := .venv/.labctl-ready
PYTHONS := python3.14 python3.13 python3.12 python3.11 python3
CACHES := .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-incus test-virtualbox check bench soak clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-15s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## Make .venv and install labctl and its tools into it
	@echo ".venv is ready"

demo: $(READY) ## Stand a lab up, load it, watch it scale, take it down
	@$(BIN)/labctl demo

# Three at a time, as real labs wait more than they work; a file's tests share its lab.
test: $(READY) ## Run every test that needs no virtual machine
	@$(BIN)/python -m pytest -q -n 3 --dist loadscope

test-incus: $(READY) ## Run the tests that need Incus
	@$(BIN)/python -m pytest -q -m incus

test-virtualbox: $(READY) ## Run the tests that need VirtualBox
	@$(BIN)/python -m pytest -q -m virtualbox -o faulthandler_timeout=900

SEEDS := 10000

soak: $(READY) ## Simulate many labs with faults: make soak SEEDS=10000, or 2501:5000
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS)

bench: $(READY) ## Measure
	@$(BIN)/python -m benchmarks

# All of them run, so that one round shows everything there is to mend.
check: $(READY) ## Check format, lint, types, imports and shell scripts
	@failed=; \
	step() { name=$$1; shift; echo "== $$name"; "$$@" || failed="$$failed $$name"; }; \
	step format $(BIN)/ruff format --check .; \
	step lint $(BIN)/ruff check .; \
	step types $(BIN)/mypy; \
	step imports $(BIN)/lint-imports --no-logo; \
	if command -v shellcheck >/dev/null 2>&1; then \
	  step shell shellcheck .ci/run vagrant/provision/labctl-seed $$(find . -name .venv -prune -o -name '*.sh' -print); \
	else \
	  echo "== shell: skipped, shellcheck is not installed"; \
	fi; \
	if command -v vagrant >/dev/null 2>&1; then \
	  step vagrant vagrant validate --ignore-provider; \
	else \
	  echo "== vagrant: skipped, vagrant is not installed"; \
	fi; \
	if [ -n "$$failed" ]; then echo "check: FAILED:$$failed"; exit 1; fi; \
	echo "check: passed"

clean: ## Remove .venv, caches and build outputs
	@rm -rf .venv $(CACHES)
	@find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# A Python is tried by running it: a pyenv shim may stand on PATH and fail. With uv there need be
# none at all, uv brings its own. The stamp is touched last, so a broken run is begun again.
$(READY): pyproject.toml
	@python=; \
	for candidate in $$PYTHON $(PYTHONS); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	  then python=$$candidate; break; fi; \
	done; \
	if uv --version >/dev/null 2>&1; then \
	  echo "Setting up .venv with uv and $${python:-a Python of its own} ..."; \
	  $(BIN)/python -c '' >/dev/null 2>&1 || uv venv -q --clear --python "$${python:-3.13}" .venv || exit 1; \
	  uv pip install -q --python $(BIN)/python -e '.[dev]' || exit 1; \
	elif [ -n "$$python" ]; then \
	  echo "Setting up .venv with $$python and pip (a minute or two) ..."; \
	  $(BIN)/python -m pip --version >/dev/null 2>&1 || "$$python" -m venv --clear .venv || exit 1; \
	  $(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]' || exit 1; \
	else \
	  echo "No Python 3.11 or newer found (tried $${PYTHON:+$$PYTHON }$(PYTHONS)): install one, or say where: make PYTHON=/path/to/python3" >&2; \
	  exit 1; \
	fi; \
	touch $@
