# The two commands: `make up` and `make test`. A machine with python3, pip and make is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DIR ?= examples/guestbook
ARGS ?=

.PHONY: up test check bench fmt clean install setup

# ensurepip is missing on a bare Debian, so pip installs into the environment from outside.
$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "installing Wherry into $(VENV)"
	@$(PYTHON) -m venv --without-pip $(VENV)
	@$(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev]'
	@touch $@

install: $(VENV)/.installed

setup: install
	@$(BIN)/wherry faas setup

up: setup
	@$(BIN)/wherry up $(DIR) $(ARGS)

test: setup
	@$(BIN)/pytest -n 2 --dist loadscope $(ARGS)

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	@for program in benchmarks/*.py; do echo "# $$program" >&2; $(BIN)/python $$program || exit 1; done

fmt: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .wherry .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
