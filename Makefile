# Requires git, make and Python 3.11 or newer; each target runs the set-up that it needs.
PYTHON ?= python3
STAGE ?= prod
BIN := .venv/bin
SETUP := .local/setup
# Tests of one file run in one worker, because most share a local cloud (half a gigabyte each).
# File order is kept: files that start a local cloud first, short files last.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile \
	--no-loadscope-reorder
LOCKS := requirements.txt requirements-dev.txt infra/local/requirements-lambda.txt
export AWS_DEFAULT_REGION ?= eu-west-1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help setup run up test test-fast test-scale check audit check-ministack package pictures format lock clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 17

setup: $(SETUP)  ## create .venv from the lock files (other targets run this first)

$(SETUP): $(LOCKS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is older than Python 3.11; use for example: make PYTHON=python3.12" >&2; exit 1; }
	@echo "creating .venv and .local from the lock files (first time only, about a minute)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.txt
	@$(PYTHON) -m venv .local/lambda
	@.local/lambda/bin/python -m pip install --quiet --require-hashes -r infra/local/requirements-lambda.txt
	@$(BIN)/python -m pip download --quiet --require-hashes --dest .local/wheels -r requirements.txt
	@touch $@

run: setup  ## run the whole pipeline once on this machine and print a report
	@$(BIN)/python -m infra run

up: setup  ## run a local cloud on port 4566 until Ctrl-C
	@$(BIN)/python -m infra up

test: setup  ## run the test suite without the large simulations
	@$(PYTEST) $(TEST)

test-fast: setup  ## run the unit and contract tests, which start no local cloud (4 minutes on two cores)
	@$(PYTEST) tests/contract tests/unit

test-scale: setup  ## run the large simulations: 2,000 instances, alarm replay, faults
	@$(PYTEST) tests/scale

check: setup  ## run ruff, mypy --strict and cfn-lint on every template
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m infra lint

audit: setup .local/audit/made  ## run checkov, bandit and pip-audit (installed on first use)
	@$(BIN)/python -m infra audit $(AUDIT)

.local/audit/made: requirements-audit.txt
	@$(PYTHON) -m venv .local/audit
	@.local/audit/bin/python -m pip install --quiet --require-hashes -r $<
	@touch $@

check-ministack: setup .local/ministack/made  ## run the pipeline once on another AWS emulator, ministack
	@$(BIN)/python -m benchmarks.independent_emulator

.local/ministack/made: requirements-ministack.txt
	@$(PYTHON) -m venv .local/ministack
	@.local/ministack/bin/python -m pip install --quiet --require-hashes -r $<
	@touch $@

package: setup  ## build the deployment package of STAGE in build/STAGE; needs Python 3.14 (make clean first)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 14))' || \
		{ echo "error: .venv is not Python 3.14, and the Lambda runtime must match it; run: make clean, then make package PYTHON=python3.14" >&2; exit 1; }
	@$(BIN)/chalice package --stage $(STAGE) --merge-template infra/overlay.yaml build/$(STAGE)

pictures: setup  ## render the README's pictures from a real run; needs chromium
	@$(BIN)/python -m benchmarks.pictures

format: setup  ## format and fix with ruff
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock" pyproject.toml
lock:  ## update the lock files from pyproject.toml
	@$(COMPILE) --upgrade --output-file requirements.txt
	@sed -i '1i # Packages in the Lambda zip. Without boto3: the Lambda runtime has it, and it would add 17 MB.' requirements.txt
	@$(COMPILE) --upgrade --group dev --constraint requirements.txt --output-file requirements-dev.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --custom-compile-command "make lock" --upgrade \
		--group lambda --output-file infra/local/requirements-lambda.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --custom-compile-command "make lock" --upgrade \
		--group audit --output-file requirements-audit.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --custom-compile-command "make lock" --upgrade \
		--group ministack --output-file requirements-ministack.txt

clean:  ## remove everything that was built or installed
	rm -rf .venv .local build .mypy_cache .pytest_cache .ruff_cache .hypothesis .chalice/deployments
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
