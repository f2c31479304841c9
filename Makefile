# The commands that a contributor types. `make` lists them.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup test check docs demo

help:
	@echo "make setup   create .venv, install everything, install the git hook"
	@echo "make test    run the tests (ARGS=tests/test_retry.py runs one file)"
	@echo "make check   format, lint, types, imports: the checks that need no server"
	@echo "make docs    run the commands that README and docs/ show, and check the reference"
	@echo "make demo    start everything with simulated providers and send one batch"

setup:
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -e '.[dev]'
	$(BIN)/pre-commit install

test:
	$(BIN)/pytest $(ARGS)

check:
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs:
	$(BIN)/pytest tests/test_docs.py tests/test_doc_links.py tests/test_reference.py tests/test_examples.py

demo:
	$(BIN)/orchestrator demo
