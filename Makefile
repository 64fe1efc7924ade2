# Two commands set everything up on a fresh machine: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BARE := .venvs/bare
WORK := work

.PHONY: demo test lint test-bare tiny tiny-card flips recipes off-topic bench-peers bench emulated-flips test-emulation full-size docs clean help

help:  ## Show this help.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/.export  ## Export the tiny trained FogGen to int4, and ask it two questions.
	$(BIN)/python examples/demo.py

test: $(VENV)/.dev  ## Run the tests.
	$(BIN)/python -m pytest

lint: $(VENV)/.dev  ## Run the linters and the type checker.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=tests/tiny_foggen $(BIN)/mypy --config-file= --strict tests/tiny_foggen/*.py
	$(BIN)/lint-imports

test-bare: $(VENV)/.dev $(BARE)/.ready  ## Run the runtime's tests on the bare wheel, without extras.
	rm -rf $(WORK)/bare && mkdir -p $(WORK)/bare
	for quant in fp32 int8 int4; do \
	  $(BIN)/foggen-export tests/tiny_foggen/checkpoint --quant $$quant -o $(WORK)/bare/$$quant; \
	done
	FOGGEN_TEST_BUNDLES=$(WORK)/bare $(BARE)/bin/python -m pytest tests/runtime -p no:cacheprovider

tiny: $(VENV)/.dev  ## Train the tiny FogGen again (tens of minutes).
	$(BIN)/python tests/tiny_foggen/heldout.py
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python tests/tiny_foggen/train.py
	$(BIN)/python tests/tiny_foggen/card.py

tiny-card: $(VENV)/.dev  ## Evaluate the tiny FogGen and write its card.
	$(BIN)/python tests/tiny_foggen/card.py

flips: $(VENV)/.dev  ## Count the decisions each recipe changes, on the tiny FogGen.
	$(BIN)/python -m benchmarks.flips

recipes: $(VENV)/.dev  ## Judge each piece of the recipes (quarter of an hour).
	$(BIN)/python -m benchmarks.recipes

off-topic: $(VENV)/.dev  ## Count confident answers to text that is no question.
	$(BIN)/python -m benchmarks.off_topic

bench-peers: $(VENV)/.dev  ## Make the peers' environments and models (an hour, 17 GB in work/).
	$(BIN)/python -m benchmarks.checkpoint
	$(BIN)/python -m benchmarks.peers.venvs
	$(BIN)/python -m benchmarks.models

bench: $(VENV)/.dev  ## Measure our engine beside the peers, on an idle machine (half an hour).
	$(BIN)/python -m benchmarks.models foggen-int4 foggen-int4-plain foggen-int8 foggen-int8-plain
	$(BIN)/python -m benchmarks.compare
	$(BIN)/python -m benchmarks.automix
	$(BIN)/python -m benchmarks.profile_ops

emulated-flips: $(VENV)/.dev  ## Count the decisions that change on emulated processors (hours).
	nice -n 19 $(BIN)/python -m benchmarks.emulation.flips

test-emulation: $(VENV)/.dev  ## Test that an emulated Cortex-A76 decides as this machine.
	$(BIN)/python -m pytest -m slow tests/test_emulation.py

full-size: $(VENV)/.dev  ## Export and ask a random checkpoint of Qwen3-0.6B's exact shape.
	$(BIN)/python -m benchmarks.full_size

docs: $(VENV)/.dev  ## Write the generated pages of the documentation.
	$(BIN)/python docs/generate.py

clean:  ## Remove everything these targets made.
	rm -rf $(VENV) .venvs $(WORK) build dist demo

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.export: $(VENV)/.made pyproject.toml
	$(BIN)/pip install --quiet --editable '.[export]'
	touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/.export

$(BARE)/.ready: pyproject.toml $(shell find runtime exporter -name '*.py')
	rm -rf $(BARE) dist
	$(PYTHON) -m venv $(BARE)
	$(BARE)/bin/pip wheel --quiet --no-deps --wheel-dir dist .
	$(BARE)/bin/pip install --quiet dist/foggen-*.whl pytest openai
	touch $@
